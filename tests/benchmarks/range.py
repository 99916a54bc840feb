"""Measure the scoring of many sessions: what each part of it costs, and the command itself.

usage: python tests/benchmarks/range.py --root DIR --from 2024-01-02 --to 2024-12-20

DIR has features and a champion that learnt nothing of the range; the command runs on a copy of it. The parts are timed
one after the other over the whole range, the store being only read: ``said`` is all that a backtest does of a
session, ``why`` the contributions, ``audits`` and ``gates`` what a night must find sound.
"""

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
from stages import measure

from kstock_batch.champion import Champion
from kstock_batch.registry import Registry
from kstock_batch.serving.night.gates import data_gates
from kstock_batch.serving.night.score import predicted
from kstock_batch.serving.night.session_windows import WindowsAhead
from kstock_batch.settings import Settings
from kstock_batch.store.audits import run_audits


class Parts:
    """Wall and processor seconds by part."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def of(self, name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return what ``work`` returns, and add up how long it took."""
        wall, cpu = time.perf_counter(), time.process_time()
        found = work(*arguments)
        spent = self.spent.setdefault(name, [0.0, 0.0])
        spent[0] += time.perf_counter() - wall
        spent[1] += time.process_time() - cpu
        return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--from", dest="first", type=date.fromisoformat, required=True)
    parser.add_argument("--to", dest="last", type=date.fromisoformat, required=True)
    given = parser.parse_args()
    settings = Settings(root=given.root)
    champion, parts, n_rows = Champion.load(Registry(settings.models).champion()), Parts(), 0
    con = duckdb.connect(str(settings.store), read_only=True)
    con.execute("SET TimeZone = 'UTC'")
    con.execute(f"SET threads = {settings.threads}")
    query = "SELECT as_of FROM feature_session WHERE as_of BETWEEN $first AND $last ORDER BY as_of"
    days = [day for (day,) in con.execute(query, {"first": given.first, "last": given.last}).fetchall()]
    ahead = WindowsAhead(con, days)
    for day in days:
        windows = parts.of("windows", ahead.read, day)
        n_rows += parts.of("said", predicted, champion, windows, day).height
        parts.of("why", champion.explain, windows.inputs, windows.ends)
        audits = parts.of("audits", run_audits, con, day)
        parts.of("gates", data_gates, con, day, settings, audits)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    con.close()
    print(f"{len(days)} sessions, {n_rows:,} rows, of {given.first} … {given.last}\n")
    print("| part | wall s | processor s | MB |\n|---|--:|--:|--:|")
    for name, (wall, cpu) in parts.spent.items():
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | |")
    print(f"| all of these | {sum(w for w, _ in parts.spent.values()):.1f} | | {peak:,.0f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        shutil.copytree(given.root, root, ignore=shutil.ignore_patterns("backtest", "backups", "scratch"))
        one = measure(root, "score", "--from", str(given.first), "--as-of", str(given.last), "--force")
    print(f"| score --from … --as-of … | {one.wall:.1f} | {one.cpu:.1f} | {one.peak_mb:,.0f} |")


if __name__ == "__main__":
    main()
