"""Bars side by side: one column a series, one row a bar, so that a step of every series is one vector operation.

Axis letters: B bars, S series. Row W is the first bar to compute; the rows above it hold the bars before, which rolling
windows reach into. A bar that does not exist is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Matrix = NDArray[np.float64]  # (B, S)
Vector = NDArray[np.float64]  # (S,)
Numbers = NDArray[np.int64]

REACH = 252  # bars before the first to compute that a rolling window may need: a year of highs


@dataclass(frozen=True)
class Layout:
    """Where each row of a long frame stands in the matrix.

    Attributes
    ----------
    row, column : (rows,) position of each row of the frame
    is_new : (rows,) whether it is to be computed, or only reached into
    begins : (S,) which row of the frame each series begins on
    n_rows, n_series : shape (B, S)
    cell, new_cell : (rows,) and (new rows,) the same places counted through the matrix, and through its rows from W on
    """

    row: Numbers
    column: Numbers
    is_new: NDArray[np.bool_]
    begins: Numbers
    n_rows: int
    n_series: int
    cell: Numbers
    new_cell: Numbers

    @classmethod
    def of(cls, series: Numbers, is_new: NDArray[np.bool_], n_series: int) -> "Layout":
        """Return the layout of rows sorted by (series, session): each one's first new bar stands on row W = REACH."""
        n_old = np.bincount(series[~is_new], minlength=n_series)
        if n_old.max(initial=0) > REACH:
            raise ValueError(f"{n_old.max()} bars before the first to compute, at most {REACH} fit")
        n_all = np.bincount(series, minlength=n_series)
        begins = np.cumsum(n_all) - n_all
        position = np.arange(len(series)) - begins[series]
        row = REACH + position - n_old[series]
        n_new = n_all - n_old
        cell = row * n_series + series
        new_cell = cell[is_new] - REACH * n_series
        return cls(row, series, is_new, begins, REACH + int(n_new.max(initial=0)), n_series, cell, new_cell)

    def spread(self, values: pl.Series) -> Matrix:
        """Return a column of the frame as (B, S) float64, null as NaN."""
        matrix = np.full((self.n_rows, self.n_series), np.nan)
        matrix.ravel()[self.cell] = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return matrix

    def gather(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the new bars of (B - W, S) computed values in the order of the frame's new rows."""
        return values.take(self.new_cell)

    def newest(self, is_known: NDArray[np.bool_]) -> Numbers:
        """Return (S,) which row of the frame is each series' newest of the known ones, its first rows; -1 for none."""
        n_known = np.bincount(self.column[is_known], minlength=self.n_series)
        return np.where(n_known > 0, self.begins + n_known - 1, -1)


def shifted(matrix: Matrix, back: int, n: int) -> Matrix:
    """Return the (n, S) values ``back`` bars before each of the last ``n`` rows, as a view."""
    end = len(matrix) - back
    return matrix[end - n : end]


def rolling_sum(matrix: Matrix, window: int, n: int) -> Matrix:
    """Return (n, S) sums over ``window`` bars for the last ``n`` rows; NaN where one of them does not exist.

    Added up newest to oldest for each row alone: nothing is carried from before the window, so a value has the same
    bits however many bars precede it.
    """
    total = shifted(matrix, 0, n).copy()
    for back in range(1, window):
        total += shifted(matrix, back, n)
    return total


def rolling_max(matrix: Matrix, window: int, n: int) -> Matrix:
    """Return (n, S) maxima over at most ``window`` existing bars for the last ``n`` rows.

    Maxima over 2, 4, 8 … rows by doubling; two of the widest that fit cover any window, for a maximum may count a row
    twice.
    """
    rows = shifted(matrix, 0, n + window - 1)
    widest = 1
    while 2 * widest <= window:
        rows = np.fmax(rows[widest:], rows[:-widest])
        widest *= 2
    rest = window - widest
    return np.fmax(rows[rest:], rows[: len(rows) - rest]) if rest else rows


def recursive_mean(values: Matrix, alpha: float, carried: Vector) -> Matrix:
    """Return y = (1 - alpha)·y_before + alpha·x down the rows, from ``carried`` (S,), or from x where it is NaN.

    One multiplication and one addition a step, the same for the first bar after a checkpoint as for any other: going
    on from a carried value gives the bits of one long run.
    """
    means = np.empty_like(values)
    before = carried
    for row, x in enumerate(values):
        step = (1 - alpha) * before + alpha * x
        before = np.where(np.isnan(before), x, step) if row == 0 else step
        means[row] = before
    return means


def stacked(parts: Sequence[Vector], below: Matrix) -> Matrix:
    """Return carried vectors (oldest first) as rows on top of computed ones."""
    return np.vstack([*(part[None, :] for part in parts), below])
