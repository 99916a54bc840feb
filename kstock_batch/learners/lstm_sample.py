"""Windows the LSTM learns from: row numbers until a batch is gathered, split by time into training and validation.

Python 3.9 syntax and numpy only, because the bot trains on such windows too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kstock_batch.errors import NotEnoughHistory
from kstock_batch.features.windows import FloatRows, RowNumbers, gather
from kstock_batch.market.contract import HORIZON, WINDOW

if TYPE_CHECKING:
    from kstock_batch.learners.base import Examples


@dataclass(frozen=True)
class Sample:
    """Windows to learn from, not gathered yet.

    Attributes
    ----------
    values : (rows, F) float32, unscaled
    ends : (N,) row numbers of the last bars
    label : (N,) float32 in {0, 1}
    offset : (N,) float32 added to the logits inside the loss
    length : bars of a window
    """

    values: FloatRows
    ends: RowNumbers
    label: FloatRows
    offset: FloatRows
    length: int = WINDOW

    @classmethod
    def of(cls, examples: Examples) -> Sample:
        """Return the LSTM's sample of ``examples``."""
        ends, offset = examples.sequence_ends, examples.sequence_offset
        offset = np.zeros(len(ends), dtype=np.float32) if offset is None else offset
        return cls(examples.inputs.sequence, ends, examples.sequence_label, offset)

    def part(self, chosen: NDArray[np.int64]) -> Sample:
        """Return the windows at positions ``chosen``."""
        return replace(self, ends=self.ends[chosen], label=self.label[chosen], offset=self.offset[chosen])

    def windows(self) -> FloatRows:
        """Return all windows (N, T, F): ask it of a part."""
        return gather(self.values, self.ends, self.length)


def split_by_session(
    session: NDArray[np.int64], share: float, purge: int = HORIZON
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions to train and to validate on: the last ``share`` of the sessions, ``purge`` sessions apart."""
    sessions = np.unique(session)
    first = sessions[-max(1, round(share * len(sessions)))] if len(sessions) else 0
    train, validation = np.flatnonzero(session < first - purge), np.flatnonzero(session >= first)
    if not len(train):
        raise NotEnoughHistory(
            f"{len(sessions)} sessions leave no window to train on before the last {share:.0%} and {purge} purged",
            fix="train on more sessions, or for a fixed number of epochs without validation",
        )
    return train, validation
