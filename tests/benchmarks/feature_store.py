"""Measure the feature store: backfill, one new session, point-in-time reads, bytes a row, growth; medians.

usage: python tests/benchmarks/feature_store.py --source DIR [--runs 5] [--growth] [--keep DIR]

--source is a folder like the development panel. --growth also builds stores of a tenth, three tenths, all and three
times its tickers. --keep leaves the finished store there.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from stages import Measured, measure

from kstock_batch.features.retrieval import read_features
from kstock_batch.settings import Settings

N_SPINE = 650_000


def copied(root: Path, target: Path) -> Path:
    """Return a fresh copy of a root whose bytes are on the disk: the program's own fsync must not pay for them."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root, target)
    os.sync()
    return target


def line(what: str, runs: list[Measured]) -> None:
    """Print medians of whole processes."""
    wall, cpu, peak = (statistics.median(getattr(run, name) for run in runs) for name in ("wall", "cpu", "peak_mb"))
    print(f"| {what} | {wall:.2f} s | {cpu:.2f} s | {peak:,.0f} MB | {len(runs)} |", flush=True)


def timed(what: str, read: Callable[[int], object], runs: int) -> None:
    """Print the median of warm reads in this process."""
    read(0)
    seconds = []
    for n in range(runs):
        begun = time.perf_counter()
        read(n + 1)
        seconds.append(time.perf_counter() - begun)
    print(f"| {what} | {1000 * statistics.median(seconds):,.1f} ms | | | {runs} |", flush=True)


def without_newest(source: Path, target: Path) -> date:
    """Write the source as it was a session ago; return the session left out."""
    newest: date = pl.scan_parquet(source / "prices.parquet").select(pl.col("date").max()).collect().item()
    target.mkdir()
    for path in source.glob("*.parquet"):
        rows = pl.scan_parquet(path)
        day = next((name for name in ("available_from", "date") if name in rows.collect_schema()), None)
        (rows.filter(pl.col(day) < newest) if day else rows).sink_parquet(target / path.name)
    return newest


def of_tickers(source: Path, target: Path, times: float) -> int:
    """Write the source with every n-th ticker, or with all of them ``times`` times under other codes."""
    tickers = pl.read_parquet(source / "prices.parquet", columns=["ticker"])["ticker"].unique().sort()
    chosen = tickers.gather_every(round(1 / times)) if times < 1 else tickers
    target.mkdir()
    for path in source.glob("*.parquet"):
        rows = pl.read_parquet(path)
        if "ticker" in rows.columns:
            rows = rows.filter(pl.col("ticker").is_in(chosen.implode()))
            # Codes begin with a digit; each copy has ten letters of its own in its place.
            digit = pl.col("ticker").str.slice(0, 1)
            others = (
                rows.with_columns(
                    ticker=digit.replace_strict({str(d): chr(ord("A") + 10 * n + d) for d in range(10)})
                    + pl.col("ticker").str.slice(1)
                )
                for n in range(round(times) - 1)
            )
            rows = pl.concat([rows, *others])
        rows.write_parquet(target / path.name)
    return pl.scan_parquet(target / "prices.parquet").select(pl.len()).collect().item()


def whole_processes(source: Path, work: Path, runs: int) -> Path:
    """Measure the backfill and one new session; return a root with everything built."""
    early, root = work / "early", work / "root"
    without_newest(source, early)
    measure(root, "ingest", "files", str(early))
    bare = copied(root, work / "bare")
    line("features, full backfill and labels", [measure(copied(bare, work / "run"), "features") for _ in range(runs)])
    measure(root, "features")
    measure(root, "ingest", "files", str(source))
    nights = [measure(copied(root, work / "run"), "features") for _ in range(runs)]
    line("features, one new session, process start to exit", nights)
    return work / "run"


def reads(settings: Settings, runs: int) -> None:
    """Measure reads of a store that is open."""
    with duckdb.connect(str(settings.store), read_only=True, config={"threads": settings.threads}) as con:
        keys = con.sql("SELECT ticker, as_of FROM feature_daily ORDER BY as_of, ticker").pl()
        random = np.random.default_rng(0)
        spine = keys[random.choice(keys.height, min(N_SPINE, keys.height), replace=False)]
        timed(f"point-in-time features of {spine.height:,} (ticker, as_of) x 30 to polars",
              lambda _: read_features(con, spine), runs)  # fmt: skip
        days = keys["as_of"].unique().sort().to_list()[250:]
        names = keys["ticker"].unique().sort().to_list()
        timed("one session's cross-section",
              lambda n: con.sql(f"FROM cross_section('{days[(37 * n) % len(days)]}')").pl(), 4 * runs)  # fmt: skip
        timed("one ticker's full history",
              lambda n: con.sql(f"FROM feature_history('{names[(37 * n) % len(names)]}')").pl(), 4 * runs)  # fmt: skip
        used = con.execute(
            "SELECT count(DISTINCT block_id) * 262144 FROM pragma_storage_info('feature_daily') WHERE block_id >= 0"
        ).fetchall()[0][0]
        print(f"| bytes on disk a feature row, {keys.height:,} rows | {used / keys.height:.0f} | | | |", flush=True)


def growth(source: Path, work: Path) -> Iterator[tuple[int, Measured, float]]:
    """Yield price rows, the full backfill's figures and bytes on disk at each size."""
    for times in (0.1, 0.3, 1.0, 3.0):
        folder, root = work / "scaled", work / "scaled_root"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)
        n_rows = of_tickers(source, folder, times)
        measure(root, "ingest", "files", str(folder))
        os.sync()
        yield n_rows, measure(root, "features"), Settings(root=root).store.stat().st_size


def report_growth(source: Path, work: Path) -> None:
    """Print what each size takes and the exponents that fit: 1 is linear."""
    print("\n| price rows | wall | processor | peak memory | store |\n|--:|--:|--:|--:|--:|")
    sizes = []
    for n_rows, run, size in growth(source, work):
        sizes.append((n_rows, run.wall, run.peak_mb))
        took = f"{run.wall:.1f} s | {run.cpu:.1f} s | {run.peak_mb:,.0f} MB | {size / 1e6:,.0f} MB"
        print(f"| {n_rows:,} | {took} |", flush=True)
    rows, wall, peak = np.log(np.array(sizes)).T
    print(f"\nexponent of time {np.polyfit(rows, wall, 1)[0]:.2f}, of memory {np.polyfit(rows, peak, 1)[0]:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        print("| what | wall | processor | peak memory | runs |\n|---|--:|--:|--:|--:|")
        root = whole_processes(given.source, work, given.runs)
        reads(Settings(root=root), given.runs)
        if given.keep:
            shutil.copytree(root, given.keep, dirs_exist_ok=True)
        if given.growth:
            report_growth(given.source, work)


if __name__ == "__main__":
    main()
