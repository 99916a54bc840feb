"""Why a stock stands out from the whole market tonight, by the trees: what each column adds to its standing.

The unit is log-odds. A member's calibrated logit is level + shift + slope · (margin - the session's mean margin), and
the first two are the same for all stocks of the session. So a column adds slope · (its own contribution - the session's
mean contribution), and over all columns this is, exactly, how far the member places the stock above the level of the
session: a positive one speaks for it. The trees' part of the blend is the mean over its tree members, their weights
scaled to sum to 1. (The blend itself, a mean of probabilities with the LSTM in it, is no sum over columns.)

Each member's own contributions are its exact path-dependent SHAP values, the same as LightGBM's ``pred_contrib`` and
XGBoost's ``pred_contribs`` return.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from kstock_batch.features.windows import FloatRows
from kstock_batch.learners.contributions import Floats, contributions
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.tree_paths import Trees

DECIMALS = 4
TOP = 3


@runtime_checkable
class TreeMember(Protocol):
    """A trained member made of trees: LgbmMember and XgbMember."""

    def trees(self) -> Trees:
        """Return its trees as arrays."""


def explain(members: Mapping[str, object], calibration: CalibratedBlend, rows: FloatRows) -> Floats:
    """Return what each column of ``rows`` (N, D) float32 adds to the standing the trees give each stock, (N, D).

    ``rows`` must be those of all stocks scored in ONE session: what is explained is how a stock differs from them. Of
    ``members`` only the trees are asked. (N, 0), so that nothing is told, where no tree has any weight in the blend.
    """
    weights = {name: calibration.weights[name] for name, member in members.items() if isinstance(member, TreeMember)}
    total = sum(weights.values())
    if not total > 0:
        return np.empty((len(rows), 0))
    by_column = np.zeros(rows.shape)
    for name, weight in sorted(weights.items()):
        member = members[name]
        if weight > 0 and isinstance(member, TreeMember):
            slope = calibration.members[name].slope
            by_column += weight / total * slope * contributions(member.trees(), rows).by_column
    if len(rows):
        by_column -= by_column.mean(axis=0)
    return by_column


def top3(by_column: Floats, names: Sequence[str]) -> list[list[tuple[str, float]]]:
    """Return each row's three largest contributions of (N, D), largest absolute value first, with sign, rounded.

    Of equal ones the earlier column comes first.
    """
    order = np.argsort(-np.abs(by_column), axis=1, kind="stable")[:, :TOP]  # (N, 3)
    values = np.take_along_axis(by_column, order, axis=1).round(DECIMALS) + 0.0  # + 0.0: no "-0.0"
    return [
        [(names[at], value) for at, value in zip(columns, row, strict=True)]
        for columns, row in zip(order.tolist(), values.tolist(), strict=True)
    ]


def top3_json(by_column: Floats, names: Sequence[str]) -> list[str]:
    """Return ``top3`` as JSON text per row, such as ``[["rsi", 0.25], ["per", -0.1], ["roe", 0.02]]``."""
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False)  # json.dumps would make one a row
    return [encoder.encode(row) for row in top3(by_column, names)]
