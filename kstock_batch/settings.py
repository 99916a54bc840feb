"""Settings: one frozen value; defaults < kstock.toml < KSTOCK_* variables < flags."""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from kstock_batch.errors import ConfigError

FILE_NAME = "kstock.toml"
LANGUAGES = ("en", "ko")
TARGETS = ("parquet", "sqlite", "postgres")
SOURCES = ("krx", "pykrx", "fdr", "marcap", "dart", "fred", "yahoo", "bot")
KRX_SERVICES = (
    *("stk_bydd_trd", "ksq_bydd_trd", "stk_isu_base_info", "ksq_isu_base_info"),
    *("kospi_dd_trd", "kosdaq_dd_trd"),
)
# KSTOCK_* variables that are no settings: what is one gets printed and logged.
SECRETS = (
    *("postgres_uri", "krx_key", *(f"krx_key_{service}" for service in KRX_SERVICES), "dart_key"),
    *("ping_nightly_url", "ping_retrain_url"),
)

_TIME = re.compile(r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
_MEMORY = re.compile(r"^[1-9][0-9]*(\.[0-9]+)?\s?[KMGT]i?B$")


@dataclass(frozen=True)
class Settings:
    """Everything a run may be told; every field is a key of kstock.toml and a KSTOCK_* variable.

    Attributes
    ----------
    root : folder that holds ``warehouse/`` and ``models/``
    threads : processor threads that DuckDB may use
    memory_limit : memory that DuckDB may use; "" lets it decide
    cutoff : Seoul wall-clock time after which a night knows nothing more, "HH:MM"; another one counts from the coming
        night on, past sessions keep theirs
    calendar : file in the root with closures and sessions that the exchange's calendar does not know; it may be absent
    max_rejected_share : a source with a larger share of broken rows is refused whole (0 … 1)
    min_session_share : a session with fewer rows than this share of the usual count is not ready (0 … 1)
    max_age_sessions : predictions older than this are stale
    catch_up_sessions : how many sessions back `score` looks for nights that were missed; 0 = it does not
    generations : how many of the last publications are kept for a rollback
    train_sessions : sessions of history a retrain learns from
    validation_share : last part of those sessions that judges the model (0 … 1)
    n_folds : blocks that part is cut into; the models that judge a block learnt from what precedes it
    embargo_sessions : sessions left out before a block, beside those whose labels reach into it
    tree_stride, sequence_stride : every how many sessions of a ticker trees and LSTM take a window (1 = all)
    lstm_epochs : upper bound of the LSTM's passes over its windows
    tree_rounds : upper bound of the boosting rounds of each tree member
    budget_minutes : time after which a retrain goes on with the best it has so far; 0 = no limit
    device : what the LSTM is trained on: "cpu", "cuda", "mps", or "auto" for cuda where there is one
    seed : of every random choice
    include_preferred : score preferred shares too
    price_basis : which prices features and labels are computed from: "adjusted" ones, or the exchange's "raw" ones
        with the corporate actions they show
    sources : live sources in the order they are asked: of two that offer a dataset the first that has it is stored
    *_url : where each live source is found; another address serves a mirror or a test
    calls_a_night : requests of all sources together after which a night asks for nothing more that can wait
    bot_database : the bot's own SQLite file, a source of investor flows and short balances; "" = none
    targets : what else gets each night's publication: any of "parquet", "sqlite", "postgres", which is found by the
        variable KSTOCK_POSTGRES_URI
    language : what is spoken in the terminal, and what `report` and `summary` are written in: "en", "ko", or "auto" for
        the locale's; JSON, logs and the store stay English
    """

    root: Path = Path(".")
    threads: int = 2
    memory_limit: str = "4GB"
    cutoff: str = "18:30"
    calendar: str = "calendar.toml"
    max_rejected_share: float = 0.001
    min_session_share: float = 0.9
    max_age_sessions: int = 3
    catch_up_sessions: int = 20
    generations: int = 14
    train_sessions: int = 960
    validation_share: float = 0.2
    n_folds: int = 3
    embargo_sessions: int = 0
    tree_stride: int = 3
    sequence_stride: int = 7
    lstm_epochs: int = 8
    tree_rounds: int = 500
    budget_minutes: float = 30.0
    device: str = "cpu"
    seed: int = 20260101
    include_preferred: bool = False
    price_basis: str = "adjusted"
    sources: tuple[str, ...] = SOURCES
    krx_url: str = "https://data-dbg.krx.co.kr/svc/apis"
    pykrx_url: str = "https://data.krx.co.kr"
    kind_url: str = "https://kind.krx.co.kr"
    fdr_url: str = "https://raw.githubusercontent.com/FinanceData/fdr_krx_data_cache"
    marcap_url: str = "https://raw.githubusercontent.com/FinanceData/marcap"
    dart_url: str = "https://opendart.fss.or.kr/api"
    fred_url: str = "https://fred.stlouisfed.org/graph/fredgraph.csv"
    yahoo_url: str = "https://query2.finance.yahoo.com/v8/finance/chart"
    calls_a_night: int = 200
    bot_database: str = ""
    targets: tuple[str, ...] = ()
    language: str = "auto"

    @classmethod
    def load(cls, root: Path, environ: Mapping[str, str] = os.environ, **flags: object) -> "Settings":
        """Return defaults, overlaid by ``root``/kstock.toml, by KSTOCK_* variables, by flags that were given."""
        values = {key: value for key, (value, _) in settled(root, environ, flags).items()}
        return cls(**{"root": root, **values}).checked()  # type: ignore[arg-type]  # each has its field's type

    def checked(self) -> "Settings":
        """Return self, or say which value is out of range."""
        rules = {
            "threads": (1 <= self.threads <= 1024, "1 … 1024"),
            "memory_limit": (
                not self.memory_limit or _MEMORY.match(self.memory_limit) is not None,
                "it like 4GB or 512MiB",
            ),
            "cutoff": (
                _TIME.match(self.cutoff) is not None and self.cutoff >= "15:45",
                "a time in Seoul from 15:45, when prices are final, to 23:59",
            ),
            "calendar": (self.calendar != "", "the name of a file"),
            "max_rejected_share": (0 <= self.max_rejected_share < 1, "0 or more and less than 1"),
            "min_session_share": (0 < self.min_session_share <= 1, "more than 0 and at most 1"),
            "max_age_sessions": (self.max_age_sessions >= 0, "0 or more"),
            "catch_up_sessions": (0 <= self.catch_up_sessions <= 250, "0 … 250"),
            "generations": (1 <= self.generations <= 1000, "1 … 1000"),
            "train_sessions": (self.train_sessions >= 60, "60 or more"),
            "validation_share": (0.05 <= self.validation_share <= 0.5, "0.05 … 0.5"),
            "n_folds": (1 <= self.n_folds <= 20, "1 … 20"),
            "embargo_sessions": (0 <= self.embargo_sessions <= 60, "0 … 60"),
            "tree_stride": (self.tree_stride >= 1, "1 or more"),
            "sequence_stride": (self.sequence_stride >= 1, "1 or more"),
            "budget_minutes": (0 <= self.budget_minutes < float("inf"), "0 or more"),
            "lstm_epochs": (self.lstm_epochs >= 1, "1 or more"),
            "tree_rounds": (self.tree_rounds >= 1, "1 or more"),
            "device": (self.device in ("cpu", "auto", "cuda", "mps"), "cpu, auto, cuda or mps"),
            "price_basis": (self.price_basis in ("adjusted", "raw"), "adjusted or raw"),
            "targets": (set(self.targets) <= set(TARGETS), f"any of {', '.join(TARGETS)}"),
            "language": (self.language in ("auto", *LANGUAGES), "auto, en or ko"),
            "calls_a_night": (self.calls_a_night >= 1, "1 or more"),
            "sources": (set(self.sources) <= set(SOURCES), f"any of {', '.join(SOURCES)}"),
            "seed": (0 <= self.seed < 2**31, "0 … 2147483647, which every library takes"),
        }
        for key, (holds, wanted) in rules.items():
            if not holds:
                raise ConfigError(f"{key} = {getattr(self, key)} is out of range", fix=f"write {wanted}")
        return self

    @property
    def warehouse(self) -> Path:
        """Folder of the store, its lock and the serving files."""
        return self.root / "warehouse"

    @property
    def store(self) -> Path:
        """The private database: one writer."""
        return self.warehouse / "store.duckdb"

    @property
    def published(self) -> Path:
        """The published file the bot and SQL users read."""
        return self.warehouse / "serving" / "predictions.duckdb"

    @property
    def calendar_file(self) -> Path:
        """What a person knows of the exchange's calendar."""
        return self.root / self.calendar

    @property
    def models(self) -> Path:
        """Folder of model versions and the champion pointer."""
        return self.root / "models"


def settled(root: Path, environ: Mapping[str, str], flags: Mapping[str, object]) -> dict[str, tuple[object, str]]:
    """Return each setting that was given, typed, with where it was: the file, a variable or a flag."""
    file = root / FILE_NAME
    in_file = _read(file)
    if secret := sorted(in_file.keys() & set(SECRETS)):
        raise ConfigError(
            f"{file} holds {secret[0]}, which is a secret",
            fix=f"delete it there and set KSTOCK_{secret[0].upper()} in the environment",
        )
    variables = {key[7:].lower(): value for key, value in environ.items() if key.startswith("KSTOCK_")}
    given: dict[str, tuple[object, str]] = {key: (value, FILE_NAME) for key, value in in_file.items()}
    given |= {key: (value, f"KSTOCK_{key.upper()}") for key, value in variables.items() if key not in SECRETS}
    given.pop("root", None)  # where the file itself is found: the caller's to decide
    given |= {key: (value, f"--{key.replace('_', '-')}") for key, value in flags.items() if value is not None}
    known = {field.name: field.default for field in fields(Settings)}
    if unknown := sorted(given.keys() - known.keys()):
        raise ConfigError(f"unknown settings {unknown} in {file} or KSTOCK_*", fix=f"use one of {sorted(known)}")
    return {key: (_typed(key, value, known[key]), origin) for key, (value, origin) in given.items()}


def _read(file: Path) -> dict[str, object]:
    if not file.exists():
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}", fix="mend that line or delete the file") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error}", fix="make it a readable file") from error


def _typed(key: str, value: object, default: object) -> object:
    """Return ``value`` as the type of its default, or say that it is none."""
    wanted = type(default)
    try:
        if isinstance(default, bool):
            return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]
        if isinstance(default, Path):
            return Path(str(value)).expanduser()
        # TOML's true is a Python int, and int() would cut 2.5.
        if isinstance(value, bool) or (isinstance(default, int) and isinstance(value, float)):
            raise ValueError
        if isinstance(default, tuple):
            return _names(value)
        return wanted(value)  # type: ignore[call-arg]  # int, float or str of a scalar
    except (ValueError, TypeError, KeyError) as error:
        name = "list of names" if wanted is tuple else wanted.__name__
        raise ConfigError(f"{key} = {value!r} is not of type {name}", fix=f"write it as {name}") from error


def _names(value: object) -> tuple[str, ...]:
    """Return the names of a list, or of a text with commas, each once."""
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise TypeError
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
