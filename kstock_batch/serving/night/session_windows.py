"""What a session is scored from: the stored bars its windows can reach, and what models see of them."""

from dataclasses import dataclass
from datetime import date

import duckdb
import numpy as np
import polars as pl

from kstock_batch.errors import DataNotReady
from kstock_batch.features.sessions import session_days
from kstock_batch.features.windows import BarRows, RowNumbers
from kstock_batch.learners.base import Inputs
from kstock_batch.learners.inputs import build_inputs
from kstock_batch.market.contract import MAX_WINDOW_SPAN
from kstock_batch.market.sessions import Sessions
from kstock_batch.store.queries import Query


@dataclass(frozen=True)
class SessionWindows:
    """The windows of every scoreable ticker of one session; ``ends`` (N,) are rows of ``bars`` and of ``inputs``."""

    bars: BarRows
    inputs: Inputs
    ends: RowNumbers

    @classmethod
    def read(cls, con: duckdb.DuckDBPyConnection, as_of: date) -> "SessionWindows":
        """Return the windows of stored features that end on ``as_of``, or raise if there are none."""
        start = first_session(con, as_of)
        return cls.of(Query.load("serve/night_bar").frame(con, start=start, end=as_of), as_of)

    @classmethod
    def of(cls, frame: pl.DataFrame, as_of: date) -> "SessionWindows":
        """Return the windows that end on ``as_of`` of feature_daily's rows with their session_number."""
        bars = BarRows.of(frame)
        ends = ends_to_score(bars, as_of, as_of)
        inputs = build_inputs(bars, since=int(bars.frame["session_number"][int(ends[0])]))
        return cls(bars, inputs, ends)

    @property
    def tickers(self) -> pl.DataFrame:
        """Return the ticker of each window."""
        return self.bars.frame[self.ends].select("ticker")


def first_session(con: duckdb.DuckDBPyConnection, as_of: date) -> date:
    """Return the first session that a window which ends on ``as_of`` can reach."""
    return Sessions(session_days(con)).back(as_of, MAX_WINDOW_SPAN - 1)


def ends_to_score(bars: BarRows, first: date, last: date) -> RowNumbers:
    """Return the rows on which the windows of every scoreable ticker of the sessions in [first, last] end."""
    wanted = bars.frame.select(pl.col("as_of").is_between(first, last) & pl.col("is_scoreable")).to_series().to_numpy()
    ends = bars.window_ends()
    ends = np.asarray(ends[wanted[ends]], dtype=np.int64)
    if not len(ends):
        span = first if first == last else f"{first} … {last}"
        raise DataNotReady(
            f"no ticker is scoreable on {span}", fix="ingest that session and 60 bars before it, then score again"
        )
    return ends
