"""Measure the second targets over generated rows: how long each takes to write, and one ticker asked of SQLite.

usage: python tests/benchmarks/targets.py [--sessions 250] [--tickers 2500] [--runs 3] [--keep DIR]

PostgreSQL is measured where Debian's package (or initdb on PATH) is installed.
"""

import argparse
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest

from kstock_batch.serving.targets.content import Content, published_content
from kstock_batch.serving.targets.parquet import write_parquet
from kstock_batch.serving.targets.postgres import write_postgres
from kstock_batch.serving.targets.server import URI_VARIABLE, Server
from kstock_batch.serving.targets.sqlite import write_sqlite
from postgres_server import postgres_server
from small_store import publish_now, small_store

FIRST = date(2023, 1, 2)
TICKERS_FROM = 100_000
N_QUESTIONS = 20_000

_PREDICTIONS = """
INSERT INTO prediction
SELECT
  as_of, ticker, signal / 2, signal, 'NEUTRAL', 0, 0.24, signal / 0.48,
  row_number() OVER (PARTITION BY as_of ORDER BY signal DESC), 50.0, random(), random(),
  CASE WHEN random() < 0.1 THEN NULL ELSE random() END, '20261118T093000Z-1f3a9c', repeat('ab', 32),
  '20261118T093000Z-1f3a9c', TIMESTAMP '2024-01-02 10:00:00.123456',
  '[["rsi_rank", 0.2512], ["per_rank", -0.1234], ["roe_rank", 0.0212]]'
FROM (
  SELECT $first + CAST(d AS INTEGER) AS as_of, CAST(i AS VARCHAR) AS ticker, random() AS signal
  FROM range($sessions) AS a (d) CROSS JOIN range($from, $from + $tickers) AS b (i)
)
"""


def published_rows(root: Path, sessions: int, tickers: int) -> Path:
    """Publish generated predictions, and return the serving file."""
    with small_store(root) as warehouse:
        given = {"first": FIRST, "sessions": sessions, "from": TICKERS_FROM, "tickers": tickers}
        warehouse.con.execute("SELECT setseed(0.5)")
        warehouse.con.execute(_PREDICTIONS, given)
        return publish_now(warehouse, root / "predictions.duckdb").path


def one_session_less(published: Path, target: Path, newest: date) -> Path:
    """Return the serving file as it was a session ago."""
    target.write_bytes(published.read_bytes())
    with duckdb.connect(str(target)) as con:
        con.execute("DELETE FROM prediction WHERE as_of = $newest", {"newest": newest})
    return target


def line(what: str, seconds: list[float], bytes_: int | None = None) -> None:
    """Print a median."""
    size = "" if bytes_ is None else f"{bytes_ / 1e6:,.0f} MB"
    print(f"| {what} | {statistics.median(seconds):.3f} s | {size} | {len(seconds)} |", flush=True)


def timed(write: Callable[[Content], bool], published: Path) -> float:
    """Return the seconds from opening the serving file to the target's rename or commit."""
    begun = time.perf_counter()
    with published_content(published, threads=2) as content:
        write(content)
    return time.perf_counter() - begun


def ask_sqlite(path: Path, tickers: int) -> None:
    """Print how long one ticker of the newest session takes: on an open connection, and with one of its own."""
    chosen = [str(TICKERS_FROM + n) for n in random.Random(7).choices(range(tickers), k=N_QUESTIONS)]
    statement = "SELECT * FROM latest WHERE ticker = ?"
    con = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    warm = [_seconds(lambda t=ticker: con.execute(statement, (t,)).fetchall()) for ticker in chosen]
    history = [
        _seconds(lambda t=ticker: con.execute("SELECT * FROM prediction WHERE ticker = ?", (t,)).fetchall())
        for ticker in chosen[:500]
    ]
    session = [_seconds(lambda: con.execute("SELECT * FROM latest").fetchall()) for _ in range(50)]
    con.close()

    def alone(ticker: str) -> None:
        own = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
        own.execute(statement, (ticker,)).fetchall()
        own.close()

    fresh = [_seconds(lambda t=ticker: alone(t)) for ticker in chosen[:2000]]
    for what, times in (
        ("one ticker, open connection", warm),
        ("one ticker, a connection of its own", fresh),
        ("one ticker's history", history),
        ("the newest session, best first", session),
    ):
        p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[98]
        print(f"| SQLite: {what} | p50 {1000 * p50:.3f} ms | p99 {1000 * p99:.3f} ms | {len(times):,} |", flush=True)


def _seconds(ask: Callable[[], object]) -> float:
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun


def measure(root: Path, sessions: int, tickers: int, runs: int) -> None:
    """Print one table."""
    published = published_rows(root, sessions, tickers)
    newest = FIRST + timedelta(days=sessions - 1)
    before = one_session_less(published, root / "before.duckdb", newest)
    print(f"{sessions:,} sessions x {tickers:,} tickers; serving file {published.stat().st_size / 1e6:,.0f} MB\n")
    print("| what | median | size | runs |\n|---|--:|--:|--:|")
    sqlite, parquet = root / "predictions.sqlite", root / "parquet"
    writers: dict[str, Callable[[Content], bool]] = {
        "Parquet": lambda content: write_parquet(content, parquet),
        "SQLite": lambda content: write_sqlite(content, sqlite),
    }
    with ExitStack() as stack:
        try:
            server = stack.enter_context(postgres_server())
            meant = Server.named_in({URI_VARIABLE: server.uri})
            writers["PostgreSQL"] = lambda content: write_postgres(content, meant)
        except pytest.skip.Exception as why:
            print(f"(PostgreSQL: {why})")
        for name, write in writers.items():
            first = timed(write, before)
            again = [(timed(write, published), timed(write, before))[0] for _ in range(runs)]
            timed(write, published)
            nothing = [timed(write, published) for _ in range(runs)]
            size = {"SQLite": sqlite.stat().st_size if sqlite.exists() else 0}.get(name)
            if name == "Parquet":
                size = sum(path.stat().st_size for path in (parquet / "current").resolve().iterdir())
            line(f"{name}: everything, first time", [first], size)
            line(f"{name}: one session more", again)
            line(f"{name}: nothing new", nothing)
    ask_sqlite(sqlite.resolve(), tickers)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sessions", type=int, default=250)
    options.add_argument("--tickers", type=int, default=2500)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--keep", type=Path)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(asked.keep or Path(folder), asked.sessions, asked.tickers, asked.runs)
