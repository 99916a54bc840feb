"""Measure the macros and views on a store: wall and processor milliseconds, medians of many, read as Arrow.

usage: python tests/benchmarks/questions.py --root DIR [--ticker 005930] [--as-of 2024-06-28] [--runs 30]
"""

import argparse
import statistics
import time
from pathlib import Path

import duckdb

from kstock_batch.settings import Settings

QUESTIONS = (
    "FROM cross_section('{as_of}')",
    "FROM feature_history('{ticker}')",
    "FROM window_20d('{ticker}', '{as_of}')",
    "FROM feature_window WHERE ticker = '{ticker}' AND as_of = '{as_of}'",
    "FROM price WHERE ticker = '{ticker}'",
)


def milliseconds(con: duckdb.DuckDBPyConnection, question: str) -> tuple[float, float, int]:
    """Return wall and processor milliseconds of one answer, and its rows."""
    wall, cpu = time.perf_counter(), time.process_time()
    n_rows = con.sql(question).to_arrow_table().num_rows
    return (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000, n_rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--ticker", default="005930")
    parser.add_argument("--as-of", default="2024-06-28")
    parser.add_argument("--runs", type=int, default=30)
    given = parser.parse_args()
    settings = Settings.load(given.root)
    with duckdb.connect(str(settings.store), read_only=True, config={"threads": settings.threads}) as con:
        for template in QUESTIONS:
            question = template.format(ticker=given.ticker, as_of=given.as_of)
            runs = [milliseconds(con, question) for _ in range(given.runs)]
            wall, cpu, n_rows = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"wall {wall:7.1f} ms  cpu {cpu:7.1f} ms  {n_rows:7,.0f} rows  {question}")


if __name__ == "__main__":
    main()
