"""What a member of the ensemble is: something that learns from rows and windows, scores them and can be saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from kstock_batch.features.windows import FloatRows, RowNumbers

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class Inputs:
    """What models see of the rows of feature_daily, sorted by (ticker, as_of).

    Attributes
    ----------
    tabular : (rows, D) float32, NaN = missing: scale-free values of the row, for the trees
    tabular_names : D column names of ``tabular``
    categorical : the names among them that are codes, never ordinals
    sequence : (rows, F) float32, finite: what the LSTM reads of each bar, F = the 30 contract columns in order
    session : (rows,) int64, the session number of each row: to split by time, never a value a model reads
    """

    tabular: FloatRows
    tabular_names: tuple[str, ...]
    categorical: tuple[str, ...]
    sequence: FloatRows
    session: NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Rows to learn from: ``ends`` are row numbers into ``inputs``, each the last bar of a full window.

    ``label`` is (N,) float32 in {0, 1}; ``sequence_ends``/``sequence_label`` are the LSTM's thinner sample of them.

    ``sequence_offset`` (float32, as long as they are) is added to the LSTM's logits inside its loss and never when it
    predicts: with the log-odds of each session's rate, it learns how a window deviates from its session.
    """

    inputs: Inputs
    ends: RowNumbers
    label: FloatRows
    sequence_ends: RowNumbers
    sequence_label: FloatRows
    sequence_offset: FloatRows | None = None


class Member(Protocol):
    """A trained member."""

    name: ClassVar[str]
    file_name: ClassVar[str]

    def predict(self, inputs: Inputs, ends: RowNumbers) -> Probabilities:
        """Return uncalibrated probabilities of shape (N,) for the windows ending on rows ``ends``."""

    def save(self, folder: Path) -> None:
        """Write ``folder``/``file_name``; no pickle."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""

    def card(self) -> dict[str, Any]:
        """Return what the manifest should say of this member (sizes, rounds, losses): JSON values only."""


def predict_members(members: Mapping[str, Member], inputs: Inputs, ends: RowNumbers) -> dict[str, Probabilities]:
    """Return each member's uncalibrated probabilities (N,)."""
    return {name: member.predict(inputs, ends) for name, member in members.items()}
