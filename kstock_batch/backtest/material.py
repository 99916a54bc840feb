"""What refits learn from and score, as files: the store is read for seconds and then free for the night.

Rows go out as Parquet, and a worker asks them with the statements that the store is asked with. What models see of
every row is built once, in blocks of sessions as a night builds it, and lies in one file that all workers map: a refit
would otherwise build a gigabyte of its own, to the bit the same.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from kstock_batch.features.sessions import session_days
from kstock_batch.features.windows import BarRows, FloatRows, RowNumbers
from kstock_batch.files import disk_full_is_named, fsync
from kstock_batch.learners.base import Inputs
from kstock_batch.learners.inputs import CATEGORICAL, TABULAR_NAMES, build_inputs
from kstock_batch.market.contract import MAX_WINDOW_SPAN, N_FEATURES
from kstock_batch.market.sessions import Sessions
from kstock_batch.quoting import quoted_text
from kstock_batch.serving.night.session_windows import ends_to_score
from kstock_batch.store.queries import Query
from kstock_batch.training.dataset import LabelledRows, labelled_rows

BLOCK = 120  # sessions whose inputs are built at once: 0.7 GB of the real market's
BYTES_A_ROW = 4 * (len(TABULAR_NAMES) + N_FEATURES) + 60
_BUILDING = ".building-"
# All that rows are chosen and named by; what models see of them lies in the arrays.
_SLIM = (
    "ticker, as_of, place, atr_pct, bb_bandwidth, is_scoreable, null_feature_count, feature_set_version, bars_available"
)


@dataclass(frozen=True)
class SharedInputs(Inputs):
    """Inputs of some rows, whose tabular part lies in a file with other rows'; ``place`` (rows,) says where."""

    place: RowNumbers | None = None

    def rows(self, ends: RowNumbers) -> FloatRows:
        """Return what trees read (N, D) of the rows ``ends`` (N,)."""
        assert self.place is not None
        return np.asarray(self.tabular[self.place[ends]])


@dataclass(frozen=True)
class PreparedRows(LabelledRows):
    """Windows with known outcomes, what models see of them built before."""

    material: "Material"

    @cached_property
    def inputs(self) -> Inputs:
        """Return what models see of every row of ``bars``."""
        return self.material.inputs(self.bars)


@dataclass(frozen=True)
class Material:
    """A folder with the rows of one span of sessions."""

    folder: Path

    def learnt(self, con: duckdb.DuckDBPyConnection, as_of: date, *, n_sessions: int) -> LabelledRows:
        """Return what a retrain on the night of ``as_of`` learns from."""
        rows = labelled_rows(con, as_of, n_sessions=n_sessions)
        return PreparedRows(rows.bars, rows.ends, rows.sessions, rows.position, rows.label, self)

    def scored(self, con: duckdb.DuckDBPyConnection, first: date, last: date) -> tuple[BarRows, RowNumbers]:
        """Return bars, and the rows on which the windows end that the nights of [first, last] score."""
        start = Sessions(session_days(con)).back(first, MAX_WINDOW_SPAN - 1)
        bars = BarRows.of(Query.load("serve/night_bar").frame(con, start=start, end=last))
        return bars, ends_to_score(bars, first, last)

    def inputs(self, bars: BarRows) -> Inputs:
        """Return what models see of every row of ``bars``."""
        place = bars.frame["place"].cast(pl.Int64).to_numpy()
        return SharedInputs(
            tabular=self._array("tabular"),
            tabular_names=TABULAR_NAMES,
            categorical=CATEGORICAL,
            sequence=np.asarray(self._array("sequence")[place]),
            session=bars.frame["session_number"].cast(pl.Int64).to_numpy(),
            place=place,
        )

    @contextmanager
    def connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection whose feature_daily, label_daily and raw_calendar are the files."""
        con = duckdb.connect(config={"threads": 1})
        try:
            con.execute("SET TimeZone = 'UTC'")
            for table, columns in (("feature_daily", _SLIM), ("label_daily", "*"), ("raw_calendar", "*")):
                file = quoted_text(str(self.folder / f"{table}.parquet"))
                con.execute(f"CREATE VIEW {table} AS SELECT {columns} FROM read_parquet({file})")
            yield con
        finally:
            con.close()

    def _array(self, name: str) -> FloatRows:
        array: FloatRows = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return array


def export_rows(con: duckdb.DuckDBPyConnection, folder: Path, *, start: date, end: date) -> Path | None:
    """Write the rows of [start, end] to a folder beside ``folder`` and return it; None if ``folder`` is there."""
    if folder.exists():
        return None
    building = folder.with_name(f"{_BUILDING}{folder.name}")
    shutil.rmtree(building, ignore_errors=True)
    with disk_full_is_named(building):
        building.mkdir(parents=True)
        for table, query in (("feature_daily", "feature"), ("label_daily", "label")):
            rows = con.sql(Query.load(f"backtest/{query}").text, params={"start": start, "end": end})
            rows.write_parquet(str(building / f"{table}.parquet"), compression="zstd")
        con.sql("SELECT * FROM raw_calendar ORDER BY session").write_parquet(str(building / "raw_calendar.parquet"))
    return building


def finish(building: Path, folder: Path) -> Material:
    """Build what models see of the rows in ``building``, and put the folder in its place."""
    with disk_full_is_named(building):
        _build_arrays(building)
        for path in building.iterdir():
            fsync(path)
        building.rename(folder)
        fsync(folder.parent)
    return Material(folder)


def _build_arrays(folder: Path) -> None:
    rows = pl.scan_parquet(folder / "feature_daily.parquet")
    calendar = pl.read_parquet(folder / "raw_calendar.parquet", columns=["session"]).sort("session")
    numbers = calendar.with_row_index("session_number", offset=1).select(
        pl.col("session").alias("as_of"), pl.col("session_number").cast(pl.Int32)
    )
    days = rows.select(pl.col("as_of").unique().sort()).collect()["as_of"].to_list()
    n_rows = int(rows.select(pl.len()).collect().item())
    tabular, sequence = (
        np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(n_rows, width))
        for name, width in (("tabular", len(TABULAR_NAMES)), ("sequence", N_FEATURES))
    )
    every = Sessions(calendar["session"].to_list())
    for start in range(0, len(days), BLOCK):
        first, last = days[start], days[min(start + BLOCK, len(days)) - 1]
        warm = max(days[0], every.back(first, MAX_WINDOW_SPAN - 1)) if start else days[0]
        block = rows.filter(pl.col("as_of").is_between(warm, last)).collect().join(numbers, on="as_of", validate="m:1")
        bars = BarRows.of(block)
        since = numbers.filter(pl.col("as_of") == first)["session_number"].item()
        inputs = build_inputs(bars, since=since)
        assert inputs.built is not None
        place = bars.frame["place"].cast(pl.Int64).to_numpy()[inputs.built]
        tabular[place], sequence[place] = inputs.tabular, inputs.sequence[inputs.built]
    tabular.flush()
    sequence.flush()
