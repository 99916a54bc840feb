"""The scale on which the LSTM reads its columns, learnt from the bars it trains on and stored with the member.

Python 3.9 syntax and numpy only, because the bot reads its windows on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kstock_batch.features.windows import FloatRows, RowNumbers
from kstock_batch.market.contract import WINDOW

_BLOCK = 1 << 13  # rows brought to float64 at once


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of each column over the training bars.

    Attributes
    ----------
    mean : (F,) float32
    std : (F,) float32, 0 = the column was constant throughout training, whatever it holds later (infinity in a file)
    """

    mean: FloatRows
    std: FloatRows

    @classmethod
    def fit(cls, rows: FloatRows, ends: RowNumbers, length: int = WINDOW) -> Scaler:
        """Return the scale of the bars of the windows that end on ``ends``; every other row of ``rows`` is unseen."""
        is_bar = _bars(len(rows), ends, length)
        n = int(is_bar.sum())
        mean = sum(block.sum(axis=0) for block in _blocks(rows, is_bar)) / n
        variance = sum(np.square(block - mean).sum(axis=0) for block in _blocks(rows, is_bar)) / n
        # Exactly 0 for a constant column: the sums of one float32 are exact in float64, up to 2^29 rows of it.
        return cls(np.asarray(mean, dtype=np.float32), np.sqrt(variance).astype(np.float32))

    @property
    def scale(self) -> FloatRows:
        """What centred columns are multiplied by, (F,) float32.

        It is 0 for a constant column: no gradient ever touched the weights that read it, so a source that comes
        alive later (flows, a policy year) would be answered with the noise those weights began with.
        """
        return np.divide(np.float32(1), self.std, out=np.zeros_like(self.std), where=self.std > 0)

    def apply(self, windows: FloatRows) -> FloatRows:
        """Return ``windows`` (N, T, F) as the network reads them: float32 of the same shape."""
        return (windows - self.mean) * self.scale


def _bars(n_rows: int, ends: RowNumbers, length: int) -> NDArray[np.bool_]:
    """Return (rows,) whether a row is a bar of one of the windows."""
    is_bar = np.zeros(n_rows, dtype=np.bool_)
    for back in range(length):
        is_bar[ends - back] = True
    return is_bar


def _blocks(rows: FloatRows, chosen: NDArray[np.bool_]) -> Iterator[NDArray[np.float64]]:
    """Yield the chosen rows, (n, F) float64 at a time: all at once would be twice the rows themselves."""
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        yield rows[part][chosen[part]].astype(np.float64)
