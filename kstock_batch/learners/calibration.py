"""Scales of a probability: Platt scaling to what truly happens, and the even-prior signal the bot's thresholds expect.

Platt: with z = logit(p), find a, b such that sigmoid(a z + b) is as likely as possible given what came true.
Both maps are increasing, so neither changes who is ranked above whom.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MIN_ROWS = 200  # fewer outcomes say less about two parameters than the learner's own loss did
MIN_SLOPE = 0.05  # a member that ranks backwards is flattened to the base rate, never turned round
LOGIT_LIMIT = 13.8  # p = 1e-6: beyond it a member's certainty is rounding
MAX_STEPS, TOLERANCE = 50, 1e-10
RIDGE = 1e-9  # a member that says one number leaves the slope undetermined


@dataclass(frozen=True)
class Calibrator:
    """sigmoid(slope · logit(p) + intercept); ``note`` says why it is not the plain fit, "" if it is."""

    slope: float = 1.0
    intercept: float = 0.0
    note: str = ""

    @classmethod
    def fit(cls, p: ArrayLike, y: ArrayLike) -> "Calibrator":
        """Return the map that fits probabilities ``p`` (N,) to outcomes ``y`` (N,) in {0, 1}; NaN rows are left out."""
        probability, outcome = np.asarray(p, dtype=np.float64), np.asarray(y, dtype=np.float64)
        known = ~(np.isnan(probability) | np.isnan(outcome))
        z, outcome = _logit(probability[known]), outcome[known]
        if len(z) < MIN_ROWS:
            return cls(note=f"identity: {len(z)} outcomes, {MIN_ROWS} are needed")
        if outcome.min() == outcome.max():
            return cls(note=f"identity: all {len(z)} outcomes are {outcome[0]:.0f}")
        target = _smoothed(outcome)
        slope, intercept = _newton(np.stack([z, np.ones_like(z)], axis=1), target)
        if slope >= MIN_SLOPE:
            return cls(slope, intercept)
        (intercept,) = _newton(np.ones((len(z), 1)), target, offset=MIN_SLOPE * z)
        return cls(MIN_SLOPE, intercept, f"flattened: the fitted slope {slope:.3f} is below {MIN_SLOPE}")

    def apply(self, p: ArrayLike) -> Floats:
        """Return calibrated probabilities; NaN stays NaN."""
        return _sigmoid(self.slope * _logit(np.asarray(p, dtype=np.float64)) + self.intercept)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "Calibrator":
        """Return what ``as_json`` described."""
        return cls(float(facts["slope"]), float(facts["intercept"]), str(facts.get("note", "")))


def even_prior_signal(probability: ArrayLike, base_rate: float) -> Floats:
    """Return the same evidence under an even prior: 0.5 means "no better than the base rate"; NaN stays NaN."""
    if not 0 < base_rate < 1:
        raise ValueError(f"base_rate = {base_rate} is not between 0 and 1")
    p = np.asarray(probability, dtype=np.float64)
    yes, no = p * (1 - base_rate), (1 - p) * base_rate
    signal: Floats = yes / (yes + no)
    return signal


def _logit(p: Floats) -> Floats:
    """Return log(p / (1 - p)), cut where p is 0 or 1 to rounding."""
    with np.errstate(divide="ignore"):
        odds: Floats = np.clip(np.log(p) - np.log1p(-p), -LOGIT_LIMIT, LOGIT_LIMIT)
    return odds


def _sigmoid(z: Floats) -> Floats:
    """Return 1 / (1 + exp(-z)) without its overflow."""
    p: Floats = 0.5 * (np.tanh(0.5 * z) + 1)
    return p


def _smoothed(outcome: Floats) -> Floats:
    """Return Platt's targets just inside 0 and 1: they keep the fit finite where the classes can be told apart."""
    n_yes = outcome.sum()
    n_no = len(outcome) - n_yes
    target: Floats = np.where(outcome > 0, (n_yes + 1) / (n_yes + 2), 1 / (n_no + 2))
    return target


def _newton(design: Floats, target: Floats, offset: Floats | float = 0.0) -> list[float]:
    """Return the coefficients (K,) of a logistic regression of ``target`` (N,) on ``design`` (N, K)."""
    beta = np.zeros(design.shape[1])
    for _ in range(MAX_STEPS):
        p = _sigmoid(design @ beta + offset)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + RIDGE * np.eye(len(beta))
        step = np.linalg.solve(hessian, design.T @ (target - p))
        beta = beta + step
        if np.abs(step).max() < TOLERANCE:
            break
    return [float(value) for value in beta]
