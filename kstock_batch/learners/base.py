"""What a member of the ensemble is: something that learns from rows and windows, scores them and can be saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from kstock_batch.features.windows import FloatRows, RowNumbers

Probabilities = NDArray[np.float64]
Margins = NDArray[np.float64]  # log-odds, uncalibrated


@dataclass(frozen=True)
class Inputs:
    """What models see of the rows of feature_daily, sorted by (ticker, as_of).

    Attributes
    ----------
    tabular : (rows, D) float32, NaN = missing: scale-free values of the row, for the trees; see ``rows``
    tabular_names : D column names of ``tabular``
    categorical : the names among them that are codes, never ordinals
    sequence : (rows, F) float32, finite: what the LSTM reads of each bar, F = the 30 contract columns in order
    session : (rows,) int64, the session number of each row: to split by time, never a value a model reads
    built : the rows that ``tabular`` holds, ascending; None = all: of 40 sessions' bars a night's trees read one's
    """

    tabular: FloatRows
    tabular_names: tuple[str, ...]
    categorical: tuple[str, ...]
    sequence: FloatRows
    session: NDArray[np.int64]
    built: RowNumbers | None = None

    def rows(self, ends: RowNumbers) -> FloatRows:
        """Return what trees read (N, D) of the rows ``ends`` (N,)."""
        if self.built is None:
            return self.tabular[ends]
        at = np.searchsorted(self.built, ends)
        if not np.array_equal(self.built[np.minimum(at, len(self.built) - 1)], ends):
            raise ValueError("rows were asked for of sessions for which nothing tabular was built")
        return self.tabular[at]


@dataclass(frozen=True)
class Examples:
    """Rows to learn from: row numbers into ``inputs``, each the last bar of a full window.

    An offset says how far the rate of rises of the window's session lies from the mean, in log-odds: what a member that
    learns a stock's standing starts from, in its loss and never when it predicts. None = from nowhere in particular.

    Attributes
    ----------
    inputs : what models see of every row
    ends, label, offset : (N,) window ends, float32 outcomes in {0, 1}, float32 offsets
    sequence_ends, sequence_label, sequence_offset : the LSTM's thinner sample of them
    """

    inputs: Inputs
    ends: RowNumbers
    label: FloatRows
    sequence_ends: RowNumbers
    sequence_label: FloatRows
    sequence_offset: FloatRows | None = None
    offset: FloatRows | None = None


class Member(Protocol):
    """A trained member."""

    name: ClassVar[str]
    file_name: ClassVar[str]

    def margin(self, inputs: Inputs, ends: RowNumbers) -> Margins:
        """Return log-odds of shape (N,) for the windows ending on rows ``ends``: what they rank, not yet how likely."""

    def predict(self, inputs: Inputs, ends: RowNumbers) -> Probabilities:
        """Return the same as uncalibrated probabilities (N,)."""

    def save(self, folder: Path) -> None:
        """Write ``folder``/``file_name``; no pickle."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""

    def card(self) -> dict[str, Any]:
        """Return what the manifest should say of this member (sizes, rounds, losses): JSON values only."""


def member_margins(members: Mapping[str, Member], inputs: Inputs, ends: RowNumbers) -> dict[str, Margins]:
    """Return each member's log-odds (N,)."""
    return {name: member.margin(inputs, ends) for name, member in members.items()}
