"""The rows a retrain may learn from: everything known by one night, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.errors import NotEnoughHistory
from kstock_batch.features.sessions import session_days
from kstock_batch.features.windows import BarRows, FloatRows, RowNumbers
from kstock_batch.learners.base import Examples, Inputs
from kstock_batch.learners.calibration import session_offset
from kstock_batch.learners.inputs import build_inputs
from kstock_batch.market.contract import MAX_WINDOW_SPAN
from kstock_batch.market.sessions import Sessions
from kstock_batch.store.queries import Query


@dataclass(frozen=True)
class LabelledRows:
    """Windows with known outcomes.

    Attributes
    ----------
    bars : rows of feature_daily
    inputs : what models see of them, built when first asked for
    ends : (N,) row numbers on which the windows end
    sessions : the sessions those windows end on, oldest first
    position : (N,) which of ``sessions`` each window ends on
    label : (N,) float32 in {0, 1}
    """

    bars: BarRows
    ends: RowNumbers
    sessions: Sequence[date]
    position: NDArray[np.int64]
    label: FloatRows

    def chosen(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which windows end on the sessions at ``positions``."""
        return np.flatnonzero(np.isin(self.position, positions))

    def examples(self, windows: NDArray[np.int64], *, tree_stride: int = 1, sequence_stride: int = 1) -> Examples:
        """Return the chosen windows to learn from, thinned: every ``stride``-th bar of each ticker.

        Neighbouring windows share 19 of 20 bars and most of their label, so thinning them loses little. Row numbers
        run on within a ticker, which staggers the tickers over the sessions.
        """
        offset = session_offset(self.label[windows], self.position[windows]).astype(np.float32)
        tabular, sequence = (self.ends[windows] % stride == 0 for stride in (tree_stride, sequence_stride))
        return Examples(
            inputs=self.inputs,
            ends=self.ends[windows][tabular],
            label=self.label[windows][tabular],
            offset=offset[tabular],
            sequence_ends=self.ends[windows][sequence],
            sequence_label=self.label[windows][sequence],
            sequence_offset=offset[sequence],
        )

    @cached_property
    def inputs(self) -> Inputs:
        """Return what models see of every row of ``bars``."""
        return build_inputs(self.bars)

    @cached_property
    def keys(self) -> pl.DataFrame:
        """Return ticker, as_of, atr_pct, bb_bandwidth and outcome of every window."""
        rows = self.bars.frame.select("ticker", "as_of", "atr_pct", "bb_bandwidth", "label_5d", "forward_return")
        return rows[self.ends]


def labelled_rows(con: duckdb.DuckDBPyConnection, as_of: date, *, n_sessions: int) -> LabelledRows:
    """Return the windows of the last ``n_sessions`` sessions whose outcome was known by ``as_of``."""
    days = _sessions_with_outcome(con, as_of)[-n_sessions:]
    if not days:
        raise NotEnoughHistory(
            f"no outcome is known by {as_of}", fix="ingest a longer history or choose a later --as-of"
        )
    start = Sessions(session_days(con)).back(days[0], MAX_WINDOW_SPAN - 1)  # where a window ending on it may begin
    frame = Query.load("features/training_row").frame(con, start=start, end=days[-1], known_through=as_of)
    bars = BarRows.of(frame)
    ends = bars.window_ends()
    usable = bars.frame.select(
        (pl.col("is_scoreable") & pl.col("label_5d").is_not_null() & (pl.col("as_of") >= days[0])).alias("usable")
    )["usable"].to_numpy()
    ends = ends[usable[ends]]
    of_row = bars.frame.select("as_of", "label_5d")[ends]
    sessions = of_row["as_of"].unique().sort().to_list()
    position = of_row["as_of"].replace_strict(sessions, np.arange(len(sessions)), return_dtype=pl.Int64)
    return LabelledRows(
        bars=bars,
        ends=ends,
        sessions=sessions,
        position=position.to_numpy(),
        label=of_row["label_5d"].cast(pl.Float32).to_numpy(),
    )


def _sessions_with_outcome(con: duckdb.DuckDBPyConnection, as_of: date) -> list[date]:
    found = con.execute(
        "SELECT DISTINCT as_of FROM label_daily WHERE known_on <= $as_of ORDER BY as_of", {"as_of": as_of}
    ).fetchall()
    return [day for (day,) in found]
