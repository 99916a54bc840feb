"""Measure the bot's reader on a year of nights, beside a fresh connection and a plain SQLite file.

usage: python tests/benchmarks/reader.py [--sessions 250] [--tickers 2500] [--file PUBLISHED]

Milliseconds, wall and processor: on a busy machine only the second tell of the program. What comes first after a
publication is asked 500 times: of a hundred the 99th percentile would be the worst.
"""

import argparse
import os
import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path

import duckdb

from kstock_batch.bot.reader import Prediction, PredictionReader

HEADER = "| question | wall p50 | p99 | processor p50 | p99 | times |\n|---|--:|--:|--:|--:|--:|"


def measured(question: str, ask: Callable[[], object], n: int, prepare: Callable[[], object] = lambda: None) -> None:
    """Ask ``n`` times and print one line."""
    wall, cpu = [], []
    for _ in range(n):
        prepare()
        begun, used = time.perf_counter(), time.process_time()
        ask()
        wall.append(1e3 * (time.perf_counter() - begun))
        cpu.append(1e3 * (time.process_time() - used))
    told = [f"{statistics.median(ms):.3f} | {sorted(ms)[int(0.99 * n)]:.3f}" for ms in (wall, cpu)]
    print(f"| {question} | {told[0]} | {told[1]} | {n} |", flush=True)


def published(root: Path, n_sessions: int, n_tickers: int) -> Path:
    """Return a publication of made predictions."""
    from year_store import made_store

    from kstock_batch.serving.publication.publish import publish

    target = root / "predictions.duckdb"
    with made_store(root, n_sessions=n_sessions, n_tickers=n_tickers) as warehouse:
        publish(warehouse, target, run_id="made", published_at=datetime(2026, 10, 30, 10), model_card={})
    return target


def published_elsewhere(*given: object) -> Path:
    """Return ``published`` of another process: garbage of what it imports would be collected during the questions."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(published, *given).result()


def imported(module: str) -> Callable[[], object]:
    """Return a call that imports a module in a new process."""
    command = [sys.executable, "-c", f"import {module}"]
    return lambda: subprocess.run(command, check=True)


def measure_reader(path: Path) -> list[str]:
    """Measure every question, and return the tickers of the newest session."""
    reader = PredictionReader(path, None)
    newest = reader.status().publication
    assert newest is not None
    tickers = [row.ticker for row in reader.session(newest.as_of)]
    older = newest.previous_as_of
    assert older is not None

    # Two files take turns and keep a second name, as generations do: closing the last name of a deleted file of this
    # size takes the system 5 ms.
    turns = [path.with_name(f"generation-{number}") for number in range(2)]
    for turn in turns:
        shutil.copyfile(path, turn)

    def publish_again() -> None:
        temp = path.with_name("again")
        turns.reverse()
        os.link(turns[0], temp)
        os.replace(temp, path)

    def forget() -> None:
        publish_again()
        reader.status()

    def second() -> None:
        forget()
        reader.latest(tickers[0])

    measured("import duckdb alone", imported("duckdb"), 20)
    measured("import of the reader", imported("kstock_batch.bot.reader"), 20)
    measured("one ticker, warm", lambda: reader.latest(random.choice(tickers)), 5000)
    measured("one ticker, first after a publication", lambda: reader.latest(random.choice(tickers)), 500, publish_again)
    measured("one ticker, second after a publication", lambda: reader.latest(tickers[1]), 500, second)
    measured("whole universe, first", lambda: reader.session(newest.as_of), 500, forget)
    measured("whole universe, warm", lambda: reader.session(newest.as_of), 100)
    measured("whole universe of an older session", lambda: reader.session(older), 100)
    measured("top 20, first", lambda: reader.top(20), 500, forget)
    measured("history of one ticker, 60 nights", lambda: reader.history(random.choice(tickers)), 100)
    return tickers


def measure_others(path: Path, tickers: list[str], folder: Path) -> None:
    """Measure a connection made for each question, a plain scan, and SQLite, each with the same columns."""
    told = (name.replace("shap_json", "shap_top3") for name in Prediction._fields)
    columns = ", ".join(name for name in told if name != "is_stale")
    question = f"SELECT {columns} FROM latest WHERE ticker = ?"

    def fresh() -> None:
        with duckdb.connect(str(path), read_only=True) as con:
            con.execute(question, [random.choice(tickers)]).fetchall()

    measured("a fresh DuckDB connection, one ticker", fresh, 50)
    with duckdb.connect(str(path), read_only=True, config={"threads": 1}) as con:
        measured("view latest, one ticker", lambda: con.execute(question, [random.choice(tickers)]).fetchall(), 500)
        measured("view latest, whole universe", lambda: con.execute(f"SELECT {columns} FROM latest").fetchall(), 50)
        names, rows = columns.split(", "), con.execute(f"SELECT {columns} FROM latest").fetchall()
    lite = sqlite3.connect(folder / "latest.sqlite")
    lite.execute(f"CREATE TABLE latest ({columns}, PRIMARY KEY (ticker)) WITHOUT ROWID")
    texts = [[str(value) if hasattr(value, "isoformat") else value for value in row] for row in rows]
    lite.executemany(f"INSERT INTO latest VALUES ({', '.join('?' * len(names))})", texts)
    lite.commit()
    measured("SQLite, one ticker", lambda: lite.execute(question, [random.choice(tickers)]).fetchall(), 5000)
    measured("SQLite, whole universe", lambda: lite.execute(f"SELECT {columns} FROM latest").fetchall(), 50)
    lite.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=250)
    parser.add_argument("--tickers", type=int, default=2500)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "published.duckdb"
        shutil.copyfile(given.file or published_elsewhere(folder, given.sessions, given.tickers), path)
        print(f"DuckDB {duckdb.__version__}, Python {sys.version.split()[0]}, {path.stat().st_size / 1e6:.1f} MB")
        print(HEADER)
        measure_others(path, measure_reader(path), folder)


if __name__ == "__main__":
    main()
