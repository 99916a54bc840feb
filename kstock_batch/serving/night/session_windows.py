"""What a session is scored from: the stored bars its windows can reach, and what models see of them."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
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

AT_ONCE = 40  # sessions read ahead: some 300 MB, and half of the bars read are of sessions to be scored


@dataclass(frozen=True)
class SessionWindows:
    """The windows of every scoreable ticker of one session; ``ends`` (N,) are rows of ``bars`` and of ``inputs``."""

    bars: BarRows
    inputs: Inputs
    ends: RowNumbers

    @classmethod
    def read(cls, con: duckdb.DuckDBPyConnection, as_of: date) -> "SessionWindows":
        """Return the windows of stored features that end on ``as_of``, or raise if there are none."""
        return cls.of(_bars(con, as_of, as_of), as_of)

    @classmethod
    def of(cls, frame: pl.DataFrame, as_of: date) -> "SessionWindows":
        """Return the windows that end on ``as_of`` of feature_daily's rows with their session_number."""
        return cls.of_each(frame, [as_of])[as_of]

    @classmethod
    def of_each(cls, frame: pl.DataFrame, days: Sequence[date]) -> dict[date, "SessionWindows"]:
        """Return those of each of the sessions ``days``, ascending, that has any; raise if none has.

        The same to the bit as of the rows of one session and its past alone.
        """
        bars = BarRows.of(frame)
        ends = ends_to_score(bars, days[0], days[-1])
        number, day = bars.frame["session_number"].to_numpy()[ends], bars.frame["as_of"].gather(ends)
        inputs = build_inputs(bars, since=int(number.min()))
        each = {as_of: ends[(day == as_of).to_numpy()] for as_of in days}
        return {as_of: cls(bars, inputs, of_day) for as_of, of_day in each.items() if len(of_day)}

    @property
    def tickers(self) -> pl.DataFrame:
        """Return the ticker of each window."""
        return self.bars.frame[self.ends].select("ticker")


@dataclass
class WindowsAhead:
    """The windows of sessions that are scored one after the other, read ``AT_ONCE`` sessions at a time.

    19 of a window's 20 bars are in the window of the session before, too.
    """

    con: duckdb.DuckDBPyConnection
    days: Sequence[date]
    _held: dict[date, SessionWindows] = field(default_factory=dict, init=False)

    def read(self, as_of: date) -> SessionWindows:
        """Return the windows that end on ``as_of``, one of ``days``, or raise if there are none."""
        if as_of not in self._held:
            ahead = [day for day in self.days if day >= as_of][:AT_ONCE]
            self._held = {}  # never two lots in memory
            with suppress(DataNotReady):
                self._held = SessionWindows.of_each(_bars(self.con, as_of, ahead[-1]), ahead)
        return self._held.get(as_of) or SessionWindows.read(self.con, as_of)  # which tells why there are none


def _bars(con: duckdb.DuckDBPyConnection, first: date, last: date) -> pl.DataFrame:
    """Return the stored bars that windows ending on [first, last] can reach."""
    return Query.load("serve/night_bar").frame(con, start=first_session(con, first), end=last)


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
