"""Windows: a ticker's last 20 bars as float32 (T, F), gathered by row number so that they never exist all at once.

Rows sorted by (ticker, as_of) hold every window as 20 adjacent rows: 2,700 tickers x 4 years are 0.3 GB of rows,
and would be 6.5 GB of windows.

Python 3.9 syntax, and polars only in the hands of who has it: the bot gathers windows when it trains its LSTM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kstock_batch.market.contract import MAX_WINDOW_SPAN, WINDOW

if TYPE_CHECKING:
    import polars as pl

FloatRows = NDArray[np.float32]
RowNumbers = NDArray[np.int64]


@dataclass(frozen=True)
class BarRows:
    """Rows of feature_daily sorted by (ticker, as_of), and where one ticker's bars and sessions lie in them."""

    frame: pl.DataFrame

    @classmethod
    def of(cls, frame: pl.DataFrame) -> BarRows:
        """Return ``frame`` sorted; it needs ticker, as_of and session_number."""
        return cls(frame.sort("ticker", "as_of"))

    def window_ends(self, length: int = WINDOW, max_span: int = MAX_WINDOW_SPAN) -> RowNumbers:
        """Return the row numbers on which a full window ends: one ticker's bars, at most ``max_span`` sessions."""
        import polars as pl

        back = length - 1
        span = pl.col("session_number") - pl.col("session_number").shift(back) + 1
        is_end = (pl.col("ticker") == pl.col("ticker").shift(back)) & (span <= max_span)
        ends: RowNumbers = self.frame.select(is_end.fill_null(False).arg_true()).to_series().to_numpy().astype(np.int64)
        return ends

    def rows_since(self, since: int) -> RowNumbers:
        """Return the numbers of the rows of session number ``since`` and of later ones."""
        return np.flatnonzero(self.frame["session_number"].to_numpy() >= since)

    def values(self, columns: Sequence[str]) -> FloatRows:
        """Return the named columns as (rows, F) float32, null as NaN."""
        import polars as pl

        numbers = pl.col(list(columns)).cast(pl.Float32).fill_null(float("nan"))
        rows: FloatRows = self.frame.select(numbers).to_numpy()
        return rows


def gather(values: FloatRows, ends: RowNumbers, length: int = WINDOW) -> FloatRows:
    """Return the windows of shape (N, T, F) that end on rows ``ends`` of ``values`` (rows, F), oldest bar first."""
    offsets = np.arange(1 - length, 1, dtype=np.int64)  # (T,)
    windows: FloatRows = values[ends[:, None] + offsets]  # (N, T, F)
    return windows
