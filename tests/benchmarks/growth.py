"""Measure how ingest, features, retrain and score grow with the rows; fail if one is worse than linear.

usage: python tests/benchmarks/growth.py [--quick] [--runs 3] [--json FILE] [--page docs/scaling.md] [--from FILE]

Markets are generated, and grow in two directions: 1, 3 and 10 times the tickers, and 1, 3 and 10 times the years; the
smallest market that can be trained on shows what a stage takes before it has any rows. Every stage is a process of its
own, on a store of its own; sizes take turns, so that a machine that slows down slows all of them. The exponent is that
of growth_rule.py. Exit status 1: a stage grows worse than linearly, beyond noise, in time, memory or bytes.

--json keeps what was measured, --from reads it again instead of measuring, --page writes tables, drawing and computed
figures between the marks of a page. About 25 minutes on 2 quiet cores; --quick is smaller, coarser, and takes 6.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# What brings numpy is imported late: a child begins with its parent's peak memory.
from process_tree import Took, took

STAGES = ("ingest", "features", "retrain", "score")
MEASURES = {"wall": "wall", "cpu": "processor", "peak_mb": "peak memory", "bytes": "bytes on disk"}
DIRECTIONS = ("tickers", "years")
SIGNAL = 3.0  # a market of 60 names needs that much for a model that may be served
NOT_BETTER, NO_CHAMPION = 15, 11  # exit codes
# Every size does the same amount of work a row: rounds and epochs that early stopping does not reach, all sessions.
SAME_WORK = {
    "KSTOCK_TRAIN_SESSIONS": "2500",
    "KSTOCK_VALIDATION_SHARE": "0.3",
    "KSTOCK_N_FOLDS": "2",
    "KSTOCK_TREE_ROUNDS": "40",
    "KSTOCK_LSTM_EPOCHS": "1",
    "KSTOCK_BUDGET_MINUTES": "0",
}
ONE_MARKET = """
import sys
from datetime import date
from pathlib import Path
from kstock_batch.ingest.demo import write_demo
folder, tickers, sessions, signal = sys.argv[1:]
write_demo(Path(folder), date(2026, 10, 30), n_sessions=int(sessions), n_tickers=int(tickers), seed=7,
           signal=float(signal))
# They would be refused: the sample market has today's tick grid, and before 2023 the exchange had another.
(Path(folder) / "official_rows.parquet").unlink()
"""


@dataclass(frozen=True)
class Size:
    """A market: ``times`` the first of its direction; 0 = the smallest, which shows what a start takes."""

    direction: str
    times: int
    tickers: int
    sessions: int


@dataclass(frozen=True)
class Measured:
    """One stage of one size in one run; ``rows`` are those it works through, ``bytes`` what the root holds after it."""

    direction: str
    times: int
    tickers: int
    sessions: int
    stage: str
    run: int
    rows: int
    wall: float
    cpu: float
    peak_mb: float
    bytes: int


def sizes(quick: bool) -> list[Size]:
    """Return the markets to build."""
    tickers, sessions, names = (90, 250, 60) if quick else (270, 400, 200)
    least = (30, 250) if quick else (60, 250)
    steps = (1, 3, 10)
    return [
        Size("tickers", 0, *least),
        *(Size("tickers", n, n * tickers, sessions) for n in steps),
        Size("years", 0, *least),
        *(Size("years", n, names, n * 250) for n in steps),
    ]


def sources(work: Path, wanted: Sequence[Size]) -> dict[tuple[int, int], Path]:
    """Generate each market once, in a process of its own; return its folder by tickers and sessions."""
    made = {}
    for size in wanted:
        folder = work / f"{size.tickers}x{size.sessions}"
        if (size.tickers, size.sessions) not in made:
            command = [sys.executable, "-c", ONE_MARKET, str(folder), str(size.tickers), str(size.sessions)]
            if (done := took([*command, str(SIGNAL)])).code:
                sys.exit(f"no market of {size.tickers} x {size.sessions}: {done.err}")
            made[size.tickers, size.sessions] = folder
    return made


def bytes_under(root: Path) -> int:
    """Return the bytes of all files, each counted once however many names it has."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            stat = path.stat()
            found[stat.st_ino] = stat.st_size
    return sum(found.values())


def kstock(root: Path, *args: str, allowed: int = 0) -> Took:
    """Run one command of ours; end the benchmark if it fails otherwise than by the exit code ``allowed``."""
    command = [sys.executable, "-m", "kstock_batch", "--root", str(root), *args, "--json"]
    done = took(command, {**os.environ, **SAME_WORK})
    if done.code not in (0, allowed):
        sys.exit(f"{' '.join(args)} ended with exit code {done.code}: {done.err}")
    return done


def windows_learnt(root: Path) -> int:
    """Return how many windows the newest version learnt from."""
    manifest = json.loads(max((root / "models").glob("*/manifest.json")).read_text(encoding="utf-8"))
    n_rows: int = manifest["training"]["n_rows"]
    return n_rows


def let_serve(root: Path) -> None:
    """Have the newest version serve even if its gate did not let it: a small market's model takes as long to score."""
    version = max((root / "models").glob("*/manifest.json")).parent.name
    pointer = {"version": version, "promoted_at": "2026-10-30T00:00:00"}
    (root / "models" / "champion.json").write_text(json.dumps(pointer), encoding="utf-8")


def pipeline(root: Path, source: Path, size: Size, run: int) -> Iterator[Measured]:
    """Yield what each stage took, from nothing to a publication."""
    rows = 0
    for stage in STAGES:
        os.sync()  # our own fsync must not pay for the bytes of the stage before
        if stage == "ingest":
            done = kstock(root, "ingest", "files", str(source))
            rows = sum(dataset["read"] for dataset in json.loads(done.out)["datasets"])
        elif stage == "features":
            done = kstock(root, "features")
            rows = n_features = json.loads(done.out)["n_rows"]
        elif stage == "retrain":
            done = kstock(root, "retrain", allowed=NOT_BETTER)
            rows = windows_learnt(root)
            if done.code == NOT_BETTER:
                let_serve(root)
        else:
            done = kstock(root, "score", "--force")
            rows = n_features  # a night is one session of them: that of one more year must cost no more
        yield Measured(**asdict(size), stage=stage, run=run, rows=rows, wall=done.wall, cpu=done.cpu,
                       peak_mb=done.peak_mb, bytes=bytes_under(root))  # fmt: skip


def measure(wanted: Sequence[Size], runs: int) -> list[Measured]:
    """Measure every size ``runs`` times, the sizes taking turns."""
    found = []
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        work = Path(name)
        folders = sources(work, wanted)
        for run in range(runs):
            for size in wanted:
                root = work / "root"
                shutil.rmtree(root, ignore_errors=True)
                for one in pipeline(root, folders[size.tickers, size.sessions], size, run):
                    found.append(one)
                    print(told(one), file=sys.stderr, flush=True)
    return found


def told(one: Measured) -> str:
    """Return a measurement as a line."""
    return (
        f"run {one.run + 1}  {one.direction:7} x{one.times:<2} {one.stage:9} {one.rows:>10,} rows {one.wall:7.1f} s"
        f" {one.cpu:7.1f} s cpu {one.peak_mb:6,.0f} MB {one.bytes / 1e6:7.1f} MB on disk"
    )


def series_of(found: Sequence[Measured], direction: str, stage: str, measure: str) -> dict[float, list[float]]:
    """Return the values of each repetition by rows."""
    series: dict[float, list[float]] = {}
    for one in found:
        if one.direction == direction and one.stage == stage:
            series.setdefault(float(one.rows), []).append(float(getattr(one, measure)))
    return series


def machine(load: float) -> str:
    """Return where it was measured."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()},"
        f" Python {platform.python_version()}, load before it {load:.1f}"
    )


def medians(found: Sequence[Measured]) -> list[Mapping[str, float | int | str]]:
    """Return one row for each direction, stage and size: medians over the runs."""
    rows = []
    for direction in DIRECTIONS:
        for stage in STAGES:
            of_stage = [one for one in found if one.direction == direction and one.stage == stage]
            for times in sorted({one.times for one in of_stage}):
                same = [one for one in of_stage if one.times == times]
                middle = {name: statistics.median(getattr(one, name) for one in same) for name in MEASURES}
                first = same[0]
                rows.append(
                    {
                        "direction": direction,
                        "stage": stage,
                        "times": times,
                        "tickers": first.tickers,
                        "sessions": first.sessions,
                        "rows": first.rows,
                        **middle,
                    }
                )
    return rows


def main() -> None:
    """Measure, print, keep, and say whether the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--from", dest="kept", type=Path)
    given = parser.parse_args()
    if given.kept:
        document = json.loads(given.kept.read_text(encoding="utf-8"))
    else:
        load = os.getloadavg()[0]
        runs = given.runs or (2 if given.quick else 3)
        found = measure(sizes(given.quick), runs)
        document = {"machine": machine(load), "runs": runs, "measured": [asdict(one) for one in found]}
        if given.json:
            given.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    from growth_page import growths, page_with, tables, verdict

    found = [Measured(**one) for one in document["measured"]]
    curves = growths(found)
    print("\n".join(tables(document["machine"], document["runs"], found, curves)))
    if given.page:
        page_with(given.page, document["machine"], document["runs"], found, curves)
    sys.exit(verdict(curves))


if __name__ == "__main__":
    main()
