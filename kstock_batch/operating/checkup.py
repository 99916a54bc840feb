"""The check-up: what of this machine and this root would keep a night from going well, found without changing anything.

Each part is looked at by itself: whatever one of them meets, the others are told too. No source is asked.
"""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kstock_batch.errors import DataNotReady, KStockError, WarehouseLocked
from kstock_batch.operating.schedulers import SECRETS_FILE
from kstock_batch.serving.alerts import Alert
from kstock_batch.settings import Settings
from kstock_batch.store.lock import lock_holder
from kstock_batch.store.migrations import newest_version
from kstock_batch.store.warehouse import Warehouse
from kstock_batch.wording import counted

GB = 1e9
FREE_LEAST, FREE_GOOD = 1 * GB, 5 * GB  # of disk: a night writes a publication, a retrain its scratch files
MEMORY_GOOD = 6 * GB  # a retrain of 960 sessions of 2,700 stocks needs 4.5
CLOCK_SLACK = timedelta(minutes=5)
LEFT_OVER = timedelta(days=1)
MEMBERS = {"lightgbm": "LightGBM", "xgboost": "XGBoost", "torch": "the LSTM"}  # a retrain goes on without one
EXTRAS = {
    "tune": "`kstock-batch tune` needs it",
    "krx": "the source pykrx needs it",
    "postgres": "the target postgres needs it",
}
_STATES = {"fail": "problem", "warn": "note"}  # of an alert's severity
_REQUIREMENT = re.compile(r"(?P<name>[\w-]+)>=(?P<least>[\d.]+)(?:.*extra == '(?P<extra>\w+)')?")
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # as ``files.written_beside`` names what is not finished


@dataclass(frozen=True)
class Examined:
    """One thing that was looked at: ``state`` is ok, note (nothing fails for it yet) or problem."""

    part: str
    state: str
    told: str
    fix: str = ""

    def row(self) -> dict[str, str]:
        """Return it as JSON and as a row to print."""
        return asdict(self)


def examine(
    settings: Settings, alerts: Sequence[Alert], *, now: datetime, newest_run: datetime | None
) -> list[Examined]:
    """Return everything that was looked at, in the order in which it would fail.

    Parameters
    ----------
    alerts : what ``status`` found of store, champion, publication, drift and targets
    now, newest_run : the clock, and the newest start of a run that the ledger knows, both naive UTC
    """
    found = [*_python(), *_machine(settings), *_disk(settings), *_permissions(settings), *_clock(now, newest_run)]
    found += [*_store(settings), *_left_overs(settings, now)]
    told = (one for one in alerts if one.name != "store")  # it was opened here
    return [*found, *(Examined(one.name, _STATES[one.severity], one.sentence, one.fix) for one in told)]


def _python() -> Iterator[Examined]:
    yield Examined("python", "ok", f"Python {sys.version.split()[0]}")
    lacking: dict[str, str] = {}
    for requirement in metadata.requires("kstock-batch") or []:
        parsed = _REQUIREMENT.match(requirement)
        if parsed is None or parsed["extra"] not in (None, *EXTRAS):
            continue
        trouble = _trouble(parsed["name"], parsed["least"])
        if trouble and parsed["extra"]:
            told = f"the extra {parsed['extra']} is not installed ({trouble}): {EXTRAS[parsed['extra']]}"
            fix = f"pip install 'kstock-batch[{parsed['extra']}]', if you want that"
            yield Examined("packages", "note", told, fix)
        elif trouble:
            lacking[parsed["name"].removesuffix("-cpu")] = trouble
    if not _trouble("xgboost-cpu", "0") or not _trouble("xgboost", "0"):  # one of its two builds will do
        lacking.pop("xgboost", None)
    for name, trouble in lacking.items():
        if name in MEMBERS:
            told = f"{trouble}: models are trained and scored without {MEMBERS[name]}"
            yield Examined("packages", "note", told, f"pip install {name}, at best with --constraint constraints.txt")
        else:
            fix = "install kstock-batch again, with --constraint constraints.txt"
            yield Examined("packages", "problem", trouble, fix)
    if not lacking:
        yield Examined("packages", "ok", "every package is there, as new as it must be")


def _trouble(name: str, least: str) -> str | None:
    """Return why a package will not do, or None."""
    try:
        there = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is absent"
    return f"{name} is {there}, {least} is needed" if _numbers(there) < _numbers(least) else None


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3]]


def _machine(settings: Settings) -> Iterator[Examined]:
    processors, memory = os.cpu_count() or 1, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    told = f"{counted(processors, 'processor')}, {memory / GB:.1f} GB of memory"
    if settings.threads > processors:
        fix = f"set threads = {processors} in kstock.toml"
        yield Examined("machine", "note", f"{told}, but threads = {settings.threads}", fix)
    elif memory < MEMORY_GOOD:
        fix = "lower memory_limit and train_sessions in kstock.toml, or retrain on another machine"
        yield Examined("machine", "note", f"{told}: a retrain on the whole market needs {MEMORY_GOOD / GB:.0f} GB", fix)
    else:
        yield Examined("machine", "ok", told)


def _disk(settings: Settings) -> Iterator[Examined]:
    free = shutil.disk_usage(_existing(settings.warehouse)).free
    size = settings.store.stat().st_size if settings.store.exists() else 0
    told = f"{free / GB:,.1f} GB free, the store has {size / GB:,.2f} GB"
    fix = f"free some room on the disk of {settings.warehouse}, or move the root"
    if free < FREE_LEAST + size:
        yield Examined("disk", "problem", f"{told}: a night, a retrain or an upgrade may find no room", fix)
    elif free < FREE_GOOD + 2 * size:
        yield Examined("disk", "note", f"{told}: that is not much", fix)
    else:
        yield Examined("disk", "ok", told)


def _existing(path: Path) -> Path:
    """Return the path, or the first folder above it that exists."""
    return path if path.exists() else _existing(path.absolute().parent)


def _permissions(settings: Settings) -> Iterator[Examined]:
    n_before = 0
    for folder in (settings.warehouse, settings.models):
        if not os.access(_existing(folder), os.W_OK):
            n_before += 1
            fix = "make it this user's, or use another --root"
            yield Examined("permissions", "problem", f"{folder} cannot be written", fix)
    for path in (settings.store, settings.published):
        if path.exists() and path.stat().st_uid != os.geteuid():
            n_before += 1
            owner = path.stat().st_uid
            fix = "run the jobs as one user, who owns the root"
            yield Examined("permissions", "note", f"{path} belongs to user {owner}, this is user {os.geteuid()}", fix)
    secrets = settings.root / SECRETS_FILE
    if secrets.exists() and secrets.stat().st_mode & 0o077:
        n_before += 1
        told = f"{secrets} holds secrets and others may read it (mode {secrets.stat().st_mode & 0o777:o})"
        yield Examined("permissions", "problem", told, f"chmod 600 {secrets}")
    if not n_before:
        yield Examined("permissions", "ok", "the root can be written, secrets are this user's")


def _clock(now: datetime, newest_run: datetime | None) -> Iterator[Examined]:
    try:
        seoul = ZoneInfo("Asia/Seoul")
    except ZoneInfoNotFoundError:
        yield Examined("clock", "problem", "this machine knows no time zone Asia/Seoul", "install its package tzdata")
        return
    told = f"it is {now.replace(tzinfo=UTC).astimezone(seoul):%Y-%m-%d %H:%M} in Seoul"
    if newest_run and newest_run > now + CLOCK_SLACK:
        behind = f"{told}, but a run began at {newest_run:%Y-%m-%d %H:%M} UTC: the clock was set back"
        yield Examined("clock", "problem", behind, "set the clock; let NTP keep it")
    else:
        yield Examined("clock", "ok", told)


def _store(settings: Settings) -> Iterator[Examined]:
    """Tell the schema, who writes, or why it cannot be read."""
    if writer := lock_holder(settings.store.with_suffix(".lock")):
        yield Examined("store", "ok", f"it is being written by {writer}")
        return
    try:
        version = Warehouse.version(settings)
    except (DataNotReady, WarehouseLocked) as error:
        yield Examined("store", "note", error.what, error.fix)
        return
    except KStockError as error:
        yield Examined("store", "problem", error.what, error.fix)
        return
    if version < newest_version():
        told = f"its schema is {version}, this program's {newest_version()}"
        yield Examined("store", "note", told, "the next night upgrades it; `kstock-batch upgrade --dry-run` tells how")
    elif version > newest_version():
        told = f"its schema is {version}, this program knows up to {newest_version()}"
        yield Examined("store", "problem", told, "upgrade kstock-batch, or use another --root")
    else:
        yield Examined("store", "ok", f"it opens, schema {version}")


def _left_overs(settings: Settings, now: datetime) -> Iterator[Examined]:
    """Tell unfinished files that a kill left: they do no harm but take room."""
    folders = (settings.warehouse, settings.published.parent, settings.models)
    found = {path for folder in folders if folder.is_dir() for path in _entries(folder)}
    oldest = (now - LEFT_OVER).replace(tzinfo=UTC).timestamp()
    old = {path: facts.st_size for path in found if (facts := path.stat()).st_mtime < oldest}
    if old:
        some = ", ".join(str(path) for path in sorted(old)[:3])
        told = f"{counted(len(old), 'unfinished file')} of {sum(old.values()) / GB:.2f} GB, left by a kill: {some}"
        yield Examined("left over", "note", told, "delete them; nothing reads them")


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name) and path.is_file()]
    except PermissionError:
        return []
