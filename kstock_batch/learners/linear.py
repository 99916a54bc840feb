"""Logistic regressions: the two floors that every retrain must beat, and the level of last resort.

``volatility`` reads log(1 + atr_pct) and log(1 + bb_bandwidth): "+3 % within five sessions" is a volatility label, so
what does not beat this one has learnt nothing else. ``linear`` reads every tabular input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import FloatRows, RowNumbers
from kstock_batch.learners.base import Examples, Inputs, Margins
from kstock_batch.learners.calibration import logit, sigmoid

Floats = NDArray[np.float64]

VOLATILITY_COLUMNS = ("atr_pct", "bb_bandwidth")
FLOORS = ("volatility", "linear")
RIDGE = 1.0  # in rows' worth of a standardised column
CLIP = 4.0  # standard deviations: a linear model has nothing else against fat tails
MAX_STEPS, TOLERANCE = 25, 1e-8
CHUNK = 100_000  # rows standardised at once
COLUMNS_AT_ONCE = 16  # whose moments are computed at once


@dataclass(frozen=True)
class LogisticModel:
    """sigmoid(intercept + weights · standardised columns); a missing value is the column's mean.

    Attributes
    ----------
    columns : names of tabular inputs, in order
    mean, std, weights : (D,) of log(1 + x) where ``is_logarithmic``, else of x
    """

    columns: tuple[str, ...]
    is_logarithmic: bool
    mean: Floats
    std: Floats
    weights: Floats
    intercept: float

    @classmethod
    def fit(cls, examples: Examples, columns: Sequence[str], *, is_logarithmic: bool = False) -> "LogisticModel":
        """Return the most likely model of ``examples`` (its tabular rows), by Newton's steps."""
        inputs, y = examples.inputs, examples.label.astype(np.float64)
        raw = _columns(inputs, examples.ends, columns, is_logarithmic)
        mean, std = _moments(raw)
        blank = cls(tuple(columns), is_logarithmic, mean, std, np.zeros(len(columns)), 0.0)
        x = blank._standardised(raw)
        weights, intercept = np.zeros(len(columns)), float(logit(np.clip(y.mean(), 1e-6, 1 - 1e-6)))
        for _ in range(MAX_STEPS):
            p = sigmoid(x @ weights + intercept)
            step = _newton_step(x, p, y, weights)
            weights, intercept = weights + step[:-1], intercept + float(step[-1])
            if np.abs(step).max() < TOLERANCE:
                break
        return cls(tuple(columns), is_logarithmic, mean, std, weights, intercept)

    def margin(self, inputs: Inputs, ends: RowNumbers) -> Margins:
        """Return log-odds of shape (N,) for the rows ``ends``."""
        out = np.empty(len(ends))
        for start in range(0, len(ends), CHUNK):
            raw = _columns(inputs, ends[start : start + CHUNK], self.columns, self.is_logarithmic)
            out[start : start + CHUNK] = self._standardised(raw) @ self.weights + self.intercept
        return out

    def _standardised(self, raw: Floats) -> Floats:
        """Return ``raw`` (N, D), which is overwritten: half a gigabyte of a retrain's is not wanted twice."""
        scale = np.divide(1.0, self.std, out=np.zeros_like(self.std), where=self.std > 0)
        raw -= self.mean
        raw *= scale
        return np.clip(np.nan_to_num(raw, copy=False, nan=0.0), -CLIP, CLIP, out=raw)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        arrays = {name: [float(value) for value in getattr(self, name)] for name in ("mean", "std", "weights")}
        logarithmic = {"is_logarithmic": self.is_logarithmic}
        return {"columns": list(self.columns), **logarithmic, **arrays, "intercept": self.intercept}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "LogisticModel":
        """Return what ``as_json`` described."""
        mean, std, weights = (np.array(facts[name], dtype=np.float64) for name in ("mean", "std", "weights"))
        columns, intercept = tuple(facts["columns"]), float(facts["intercept"])
        return cls(columns, bool(facts["is_logarithmic"]), mean, std, weights, intercept)


def fit_floors(examples: Examples) -> dict[str, LogisticModel]:
    """Return the models by name: the floors that a challenger must beat."""
    codes = set(examples.inputs.categorical)
    every = [name for name in examples.inputs.tabular_names if name not in codes]
    return {
        "volatility": LogisticModel.fit(examples, VOLATILITY_COLUMNS, is_logarithmic=True),
        "linear": LogisticModel.fit(examples, every),
    }


def _moments(raw: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation (D,) of the known values of each column, some columns at a time."""
    mean, std = np.empty(raw.shape[1]), np.empty(raw.shape[1])
    for start in range(0, raw.shape[1], COLUMNS_AT_ONCE):
        here = slice(start, start + COLUMNS_AT_ONCE)
        some = raw[:, here]
        with np.errstate(invalid="ignore"):
            known = np.maximum((~np.isnan(some)).sum(axis=0), 1)
            mean[here] = np.nansum(some, axis=0) / known
            std[here] = np.sqrt(np.nansum((some - mean[here]) ** 2, axis=0) / known)
    return mean, std


def _newton_step(x: Floats, p: Floats, y: Floats, weights: Floats) -> Floats:
    """Return the step (D + 1,) of weights and intercept."""
    weight = p * (1 - p)
    d = x.shape[1]
    hessian = np.empty((d + 1, d + 1))
    hessian[:d, :d] = (x * weight[:, None]).T @ x + RIDGE * np.eye(d)
    hessian[:d, d] = hessian[d, :d] = x.T @ weight
    hessian[d, d] = weight.sum() + 1e-9
    gradient = np.append(x.T @ (y - p) - RIDGE * weights, (y - p).sum())
    step: Floats = np.linalg.solve(hessian, gradient)
    return step


def _columns(inputs: Inputs, ends: RowNumbers, columns: Sequence[str], is_logarithmic: bool) -> Floats:
    """Return (N, D) float64, NaN = missing."""
    if missing := [name for name in columns if name not in inputs.tabular_names]:
        raise ModelRefused(f"a logistic model reads {missing[:5]}, which the inputs lack", fix="retrain")
    rows: FloatRows = inputs.rows(ends)[:, [inputs.tabular_names.index(name) for name in columns]]
    raw = rows.astype(np.float64)
    return np.log1p(raw) if is_logarithmic else raw
