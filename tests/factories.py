"""Small source folders and roots made for the tests: four stocks written by hand, and a trained root of forty."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from click.testing import CliRunner, Result

from kstock_batch.cli.app import cli
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.market.sessions import krx_sessions
from kstock_batch.settings import Settings

Frames = dict[str, pl.DataFrame]

SAMSUNG, HYNIX, NEW_CODE, SPAC = "005930", "000660", "0004A0", "450140"
FIRST, LAST = date(2024, 2, 1), date(2024, 6, 28)
SATURDAY, FUTURE = date(2024, 6, 29), date(2999, 1, 4)

RAW_TABLES = (
    *("raw_price", "raw_market_cap", "raw_listing", "raw_financial", "raw_valuation"),
    *("raw_flow", "raw_market_flow", "raw_macro"),
)
MADE_TABLES = ("feature_daily", "label_daily", "prediction", "feature_due")
# When and by which run a row came is told apart from what it says.
PROVENANCE = "run_id|ingested_at|retracted_at|scored_at|model_version"

# The hidden signal is nearly linear: 60 stocks over 60 judged sessions cannot prove trees better than the linear floor.
WALKED = ("--tickers", "120", "--sessions", "280", "--signal", "4")
# How docs/tutorial.md begins. Its model learns no later than two weeks before the sample market's end.
FIRST_STEPS = (
    ("demo", *WALKED),
    ("retrain", "--as-of", "2026-10-15"),
    ("score", "--as-of", "2026-10-22"),
)
TINY = (
    "train_sessions = 150\nvalidation_share = 0.4\nn_folds = 2\ntree_rounds = 20\ntree_stride = 1\nlstm_epochs = 1\n"
    "sequence_stride = 20\n"
)


# Source folders


@cache
def sessions_between(first: date, last: date) -> tuple[date, ...]:
    """Return the exchange's sessions; asking its calendar costs half a second."""
    return tuple(krx_sessions(first, last))


@cache
def hand_made() -> Frames:
    """Four stocks over 100 sessions whose every value can be read off: closes rise by one won a session."""
    days = sessions_between(FIRST, LAST)
    opens_at = {SAMSUNG: 70_000, HYNIX: 150_000, NEW_CODE: 12_000, SPAC: 2_000}
    prices = pl.DataFrame(
        [
            {"date": day, "ticker": ticker, "open": price + n, "high": price + n + 20, "low": price + n - 10}
            | {"close": price + n + 1, "volume": 1_000 + n, "shares_outstanding": 5_000_000}
            for ticker, price in opens_at.items()
            for n, day in enumerate(days)
        ]
    ).with_columns(pl.col("open", "high", "low", "close").cast(pl.Float64))
    names = ("삼성전자", "SK하이닉스", "새주식", "표본스팩1호")
    listings = pl.DataFrame(
        [
            {"ticker": ticker, "name": name, "market": market, "sector": "반도체", "industry": "반도체 제조업"}
            | {"is_spac": ticker == SPAC, "is_pref": False, "first_seen": FIRST, "last_seen": None}
            for ticker, name, market in zip(opens_at, names, ("KOSPI", "KOSPI", "KOSDAQ", "KOSDAQ"), strict=True)
        ],
        schema_overrides={"last_seen": pl.Date},
    )
    macro = pl.DataFrame(
        [
            {"date": FIRST + timedelta(days=n), "series": series, "close": level + n / 10}
            for series, level in (("VIX", 14.0), ("SP500", 5_000.0), ("USDKRW", 1_350.0))
            for n in range((LAST - FIRST).days + 1)
        ]
    )
    financials = pl.DataFrame(
        {
            "ticker": [SAMSUNG, HYNIX],
            "period_end": [date(2023, 12, 31)] * 2,
            "available_from": [date(2024, 3, 12), date(2024, 3, 19)],
            "revenue_ytd": [258e12, 32e12],
            "op_income_ytd": [6.5e12, -7.7e12],
            "net_income_ytd": [15e12, -9e12],
            "equity": [363e12, 53e12],
            "liabilities": [92e12, 46e12],
            "assets": [455e12, 100e12],
            "debt_ratio": [25.4, 87.5],
        }
    )
    return {"prices": prices, "listings": listings, "macro": macro, "financials": financials}


def write_folder(folder: Path, frames: Frames | None = None, **changed: pl.DataFrame | None) -> Path:
    """Write ``frames`` as a source folder; a frame given by name replaces one, None leaves its file out."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, frame in {**(hand_made() if frames is None else frames), **changed}.items():
        if frame is not None:
            frame.write_parquet(folder / f"{stem}.parquet")
    return folder


def read_folder(folder: Path) -> Frames:
    """Return every file of a source folder by stem."""
    return {path.stem: pl.read_parquet(path) for path in folder.glob("*.parquet")}


def with_cell(frame: pl.DataFrame, row: int, **values: Any) -> pl.DataFrame:
    """Return ``frame`` with the named cells of one row replaced."""
    at = pl.int_range(pl.len()) == row
    return frame.with_columns(
        **{
            name: pl.when(at).then(pl.lit(value, dtype=frame.schema[name])).otherwise(pl.col(name))
            for name, value in values.items()
        }
    )


def sample_frames(*, sessions: int = 220, tickers: int = 40) -> Frames:
    """A sample market with a strong signal, so that a tiny model passes the gate."""
    days = sessions_between(LAST - timedelta(days=2 * sessions), LAST)[-sessions:]
    return generate(days, n_tickers=tickers, seed=7, signal=3.0).frames


def until(frames: Frames, last: date) -> Frames:
    """Return frames without what is dated after ``last``."""
    return {
        stem: frame.filter(pl.col("date") <= last) if "date" in frame.columns else frame
        for stem, frame in frames.items()
    }


def changed(source: Path, target: Path) -> Path:
    """Write the source with every price and flow a little different: an ingest that rewrites the big tables."""
    frames = read_folder(source)
    prices = pl.col("open", "high", "low", "close") * 2
    return write_folder(
        target,
        frames,
        prices=frames["prices"].with_columns(prices),
        flows=frames["flows"].with_columns(pl.col("foreign_net") + 1),
    )


# Running commands


def run(root: Path, *args: object) -> Result:
    """Run a command in this process; a traceback is a failure of the test, not a result."""
    result = CliRunner().invoke(cli, ["--root", str(root), *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def done(root: Path, *args: object) -> Result:
    """Run a command that must succeed."""
    result = run(root, *args)
    assert result.exit_code == 0, result.stderr
    return result


@dataclass(frozen=True)
class FirstNight:
    """A root after ``FIRST_STEPS``, and what each of them printed."""

    root: Path
    told: dict[tuple[str, ...], str]


def asked_json(root: Path, *args: object) -> Any:
    """Run a command that must succeed and return its JSON."""
    return json.loads(done(root, *args, "--json").stdout)


def sentence(result: Result) -> str:
    """Return the error of a failed command, which must be one sentence and one fix."""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 2, result.stderr
    assert lines[0].startswith("error: "), result.stderr
    assert lines[1].startswith("  fix: "), result.stderr
    return " ".join(line.strip() for line in lines)


# Looking at a root


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database file for reading, and close it again."""
    con = duckdb.connect(str(path), read_only=True)
    try:
        yield con
    finally:
        con.close()


def store_rows(root: Path, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a statement on the store."""
    with opened(Settings(root=root).store) as con:
        return con.execute(statement).fetchall()


def content(root: Path, tables: Sequence[str] = RAW_TABLES, *, without: str = "") -> dict[str, tuple[int, str]]:
    """Return each table's row count and a digest of its rows in any order; ``without`` = columns left out, a regex."""
    store = Settings(root=root).store
    if not store.exists():
        return dict.fromkeys(tables, (0, "0"))
    columns = f"COLUMNS(lambda c: NOT regexp_matches(c, '^({without})$'))" if without else "*"
    digest = "SELECT count(*), coalesce(sum(hash(r)), 0)::VARCHAR FROM (SELECT {} FROM {}) AS r"
    with opened(store) as con:
        return {table: con.execute(digest.format(columns, table)).fetchall()[0] for table in tables}


def everything(root: Path) -> dict[str, tuple[int, str]]:
    """Return what the raw and the computed tables say, whenever and by whichever run it was said."""
    return content(root, (*RAW_TABLES, *MADE_TABLES), without=PROVENANCE)


def copy_root(root: Path, target: Path) -> Path:
    """Copy a root; nothing may have it open."""
    shutil.copytree(root, target, dirs_exist_ok=True)
    return target


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file in place, as no part of the program ever would."""
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def flip_byte(path: Path, at: int | None = None) -> None:
    """Flip one bit in the middle of a file, or at ``at``."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0x10
    path.write_bytes(bytes(data))


@contextmanager
def disk_of(size: str, folder: Path) -> Iterator[Path]:
    """Mount an empty disk of ``size`` (as mount writes it: 64m) on ``folder``, or skip the test with the reason."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill_disk(folder: Path, *, leave: int) -> Path:
    """Write a filler so that ``leave`` bytes are free on the disk of ``folder``; delete it to free them."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        while (free := _free(folder) - leave) > 0:
            file.write(b"\0" * min(free, 1 << 20))
            file.flush()
    return filler


def _free(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
