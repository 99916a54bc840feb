"""Where each value stands among the known values of its session: average ranks, centred to -0.5 … 0.5.

Sorting is all that takes time, and numpy sorts 64-bit integers four times as fast as anything that also says where they
came from. So a value and its place become one integer, value first: sorted, it tells both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kstock_batch.features.windows import FloatRows, RowNumbers

Keys = NDArray[np.uint64]

UNKNOWN = np.uint32(0xFFFFFFFF)  # sorts after all numbers, and after NaN, which is none but known
CELLS_AT_ONCE = 1 << 15  # what stays in the processor's cache, and in memory that numpy has at hand
_SIGN = np.uint32(0x80000000)
_PLACE_BITS = np.uint64(32)


@dataclass(frozen=True)
class SessionGrid:
    """The rows of S sessions as a grid of S x W cells, W = the rows of the largest session.

    Attributes
    ----------
    shape : (S, W)
    cell : (rows,) each row's place in the flat grid; its order within the session means nothing
    """

    shape: tuple[int, int]
    cell: RowNumbers

    @classmethod
    def of(cls, session: NDArray[np.integer]) -> "SessionGrid":
        """Return the grid of rows whose sessions are ``session`` (rows,), in any order."""
        _, number, count = np.unique(session, return_inverse=True, return_counts=True)
        order = np.argsort(number, kind="stable")
        within = np.arange(len(number)) - np.repeat(np.cumsum(count) - count, count)
        cell = np.empty(len(number), dtype=np.int64)
        width = int(count.max(initial=0))
        cell[order] = number[order] * width + within
        return cls((len(count), width), cell)

    def ranks(self, value: FloatRows, is_known: NDArray[np.bool_]) -> FloatRows:
        """Return the rank of each ``value`` (rows,) among the known ones of its session, NaN where it is unknown.

        Equal values share their mean rank. A session of ties is exactly 0, and so is its only known value.
        """
        if not len(value):
            return np.empty(0, dtype=np.float32)
        keys = np.full(self.shape, UNKNOWN, dtype=np.uint32)
        keys.reshape(-1)[self.cell] = np.where(is_known, _ordered_bits(value), UNKNOWN)
        ranks = np.empty(self.shape, dtype=np.float32)
        step = max(1, CELLS_AT_ONCE // self.shape[1])
        for start in range(0, len(keys), step):
            _rank(keys[start : start + step], out=ranks[start : start + step])
        found = ranks.reshape(-1)[self.cell]
        found[~is_known] = np.nan
        return found


def _ordered_bits(value: FloatRows) -> NDArray[np.uint32]:
    """Return integers (rows,) that sort as the float32 ``value`` (rows,) does; NaN is one value above infinity."""
    plain = np.where(np.isnan(value), np.float32(np.nan), value + np.float32(0))  # one zero and one NaN
    bits = plain.view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _rank(keys: NDArray[np.uint32], *, out: FloatRows) -> None:
    """Write the centred ranks of sessions (S, W) to ``out`` (S, W); those of unknown places mean nothing."""
    n_known = np.count_nonzero(keys != UNKNOWN, axis=1)
    placed: Keys = keys.astype(np.uint64) << _PLACE_BITS
    placed |= np.arange(keys.shape[1], dtype=np.uint64)
    placed.sort(axis=1)
    begins = np.ones(keys.shape, dtype=np.bool_)
    np.not_equal(placed[:, 1:] >> _PLACE_BITS, placed[:, :-1] >> _PLACE_BITS, out=begins[:, 1:])
    start = np.flatnonzero(begins)  # of each run of equal values
    length = np.diff(start, append=keys.size)
    session, place = np.divmod(start, keys.shape[1])
    n = n_known[session]
    centred = (place + (length + 1) / 2 - (n + 1) / 2) / np.maximum(n - 1, 1)
    standing = np.where(n > 1, centred, 0.0).astype(np.float32).repeat(length).reshape(keys.shape)
    np.put_along_axis(out, (placed & np.uint64(UNKNOWN)).astype(np.int64), standing, axis=1)
