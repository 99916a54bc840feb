"""Measure a publication of a year of nights: built from nothing, and carried on from the last one.

usage: python tests/benchmarks/publish.py [--sessions 250] [--tickers 2500] [--nights 5]

A night is a session scored anew: the same work as one more. Processor seconds are this process's and the verifier's.
"""

import argparse
import resource
import tempfile
import time
from datetime import datetime
from pathlib import Path

from year_store import made_store

from kstock_batch.serving.publication.publish import publish
from kstock_batch.serving.publication.rollback import roll_back


def processor_seconds() -> float:
    """Return what this process and its children that have ended have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=250)
    parser.add_argument("--tickers", type=int, default=2500)
    parser.add_argument("--nights", type=int, default=5)
    given = parser.parse_args()
    print("| publication | wall s | processor s | MB |\n|---|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        target = root / "serving" / "predictions.duckdb"
        with made_store(root, n_sessions=given.sessions, n_tickers=given.tickers) as warehouse:
            for night in range(given.nights + 1):
                begun, used = time.perf_counter(), processor_seconds()
                at = datetime(2026, 10, 30, 10, night)
                publish(warehouse, target, run_id=f"night-{night}", published_at=at, model_card={})
                wall, cpu = time.perf_counter() - begun, processor_seconds() - used
                size = target.stat().st_size / 1e6
                print(
                    f"| {'carried on' if night else 'from nothing'} | {wall:.2f} | {cpu:.2f} | {size:.1f} |", flush=True
                )
                warehouse.con.execute(
                    "UPDATE prediction SET lgbm = random() WHERE as_of = (SELECT max(as_of) FROM prediction)"
                )
                warehouse.con.execute("CHECKPOINT")
        begun, used = time.perf_counter(), processor_seconds()
        roll_back(target)
        print(f"| rolled back | {time.perf_counter() - begun:.2f} | {processor_seconds() - used:.2f} | |")


if __name__ == "__main__":
    main()
