"""What each column adds to the trees' part of the blend, and the three columns that matter most to a row.

The unit is log-odds. The blend itself is a mean of probabilities over all members, the LSTM included, calibrated once
more; that mean is no sum over columns. What is a sum, exactly, is the trees' logit: the mean of the tree members'
calibrated logits, their weights in the blend scaled to sum to 1. A row's contributions are this logit less its bias,
which all rows share; a positive one speaks for a rise.

Each member's are its exact path-dependent SHAP values, the same as LightGBM's ``pred_contrib`` and XGBoost's
``pred_contribs`` return. A calibrated logit is slope · logit + intercept: the slope scales contributions and bias, the
intercept is bias. (Calibration cuts logits at ±13.8, which contributions do not know: p = 1e-6 there.)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from kstock_batch.features.windows import FloatRows
from kstock_batch.learners.calibration import Calibrator
from kstock_batch.learners.contributions import Contributions, Floats, contributions
from kstock_batch.learners.tree_paths import Trees

DECIMALS = 4
TOP = 3


class TreeMember(Protocol):
    """A trained member made of trees: LgbmMember and XgbMember."""

    def trees(self) -> Trees:
        """Return its trees as arrays."""


def explain(
    members: Mapping[str, TreeMember],
    calibrators: Mapping[str, Calibrator],
    weights: Mapping[str, float],
    rows: FloatRows,
) -> Contributions:
    """Return what the D columns of ``rows`` (N, D) float32 add to the trees' logit, by the names of ``members``.

    ``by_column`` is (N, D); its sum over columns plus ``bias`` is the trees' logit. ``calibrators`` and ``weights``
    may speak of other members too: only their trees are asked.
    """
    total = sum(weights[name] for name in members)
    if not total > 0:
        raise ValueError(f"the weights of the tree members {sorted(members)} sum to {total}")
    by_column, bias = np.zeros(rows.shape), 0.0
    for name, member in sorted(members.items()):
        share, calibrator = weights[name] / total, calibrators[name]
        own = contributions(member.trees(), rows)
        by_column += share * calibrator.slope * own.by_column
        bias += share * (calibrator.slope * own.bias + calibrator.intercept)
    return Contributions(by_column, bias)


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
    return [json.dumps(row, ensure_ascii=False) for row in top3(by_column, names)]
