"""Measure every stage of the job as a whole process: wall and processor seconds, peak memory; medians of several runs.

usage: python tests/benchmarks/stages.py --source DIR [--runs 3] [--retrain-as-of 2024-06-28]

Without --source the sample market is measured. Retrain is measured once, and only if a session is named.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb


@dataclass(frozen=True)
class Measured:
    """One process: seconds, and MB of its largest resident set."""

    wall: float
    cpu: float
    peak_mb: float


def measure(root: Path, *args: str) -> Measured:
    """Run one command to its end and return what the operating system says of it."""
    command = [sys.executable, "-m", "kstock_batch", "--root", str(root), *args]
    begun = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - begun
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{' '.join(args)} failed: {said.decode()}")
    return Measured(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000)


def forget_newest(root: Path) -> None:
    """Have the features of the newest session be due, as on the night it came."""
    with duckdb.connect(str(root / "warehouse" / "store.duckdb")) as con:
        con.execute("DELETE FROM feature_session WHERE as_of = (SELECT max(as_of) FROM feature_session)")


def measure_night(root: Path) -> Measured:
    """Measure a night from its features to its publication."""
    forget_newest(root)
    return measure(root, "score", "--force")


def report(stage: str, runs: Sequence[Measured]) -> None:
    """Print one line of medians."""
    middle = [statistics.median(getattr(run, name) for run in runs) for name in ("wall", "cpu", "peak_mb")]
    print(f"| {stage} | {middle[0]:.1f} | {middle[1]:.1f} | {middle[2]:,.0f} | {len(runs)} |", flush=True)


def main() -> None:
    """Measure ingest, re-ingest, features, no-op features and, if asked, retrain and score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--retrain-as-of")
    given = parser.parse_args()
    ingest = ["ingest", "files", str(given.source)] if given.source else ["demo"]
    print("| stage | wall s | cpu s | peak MB | runs |\n|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        fresh = []
        for _ in range(given.runs):
            shutil.rmtree(root / "warehouse", ignore_errors=True)
            fresh.append(measure(root, *ingest))
        report("ingest into an empty store", fresh)
        report("ingest the same again", [measure(root, *ingest) for _ in range(given.runs)])
        report("features, full backfill", [measure(root, "features", "--rebuild") for _ in range(given.runs)])
        report("features, nothing due", [measure(root, "features") for _ in range(given.runs)])
        if given.retrain_as_of:
            report("retrain", [measure(root, "retrain", "--as-of", given.retrain_as_of)])
            report("score one session", [measure(root, "score", "--force") for _ in range(given.runs)])
            report("features of a new session and score", [measure_night(root) for _ in range(given.runs)])
            report("score, nothing due", [measure(root, "score") for _ in range(given.runs)])


if __name__ == "__main__":
    main()
