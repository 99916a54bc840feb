"""The rule of growth.py: is what was measured worse than linear in the rows, beyond the noise of the measurements?

A stage takes a + b·n^k of n rows: ``a`` of no rows at all (a process that starts, libraries that load), and what grows.
Without ``a`` a stage that is all start would look sublinear, and one that is linear would look better than it is.
The three are fitted by least squares on relative errors; the noise is how far repeated measurements of one size lie
apart, never how far the curve misses them, so a curve that bends does not excuse itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from scipy.stats import t as student

LIMIT = 1.05
LEAST_NOISE = 0.01  # of a value: nothing is measured closer than that, and two equal readings are luck
FLAT = 0.10  # a value that grows by less than this share from the fewest rows to the most has no exponent worth telling
TOLD = 0.25  # an exponent that is known less closely than ± this much says nothing of 1.05
SURE = 0.95  # one-sided

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Growth:
    """A curve a + b·n^k through measurements.

    Attributes
    ----------
    start : a, in the unit measured
    scale : b
    exponent, error : k, and how far it may be off on either side (one-sided 95 %); None where nothing grows
    per_row : what one more row takes, between the two largest sizes
    """

    start: float
    scale: float
    exponent: float | None
    error: float | None
    per_row: float

    def is_worse_than_linear(self, limit: float = LIMIT) -> bool:
        """Return whether the exponent is above ``limit`` even if all the noise was against it."""
        return self.exponent is not None and self.error is not None and self.exponent - self.error > limit

    def is_told(self) -> bool:
        """Return whether the measurements are close enough together to say something."""
        return self.error is None or self.error <= TOLD

    def of(self, rows: float) -> float:
        """Return what ``rows`` would take, at the price of a row between the two largest sizes measured."""
        return self.start + self.per_row * rows


def growth_of(measured: Mapping[float, Sequence[float]]) -> Growth:
    """Return the curve through ``measured``: the values of each repetition, by rows.

    Raises ValueError for fewer than four sizes (three are fitted exactly by any values) or fewer than two repetitions.
    """
    sizes = sorted(measured)
    if len(sizes) < 4 or min(len(measured[size]) for size in sizes) < 2:
        raise ValueError(
            f"{len(sizes)} sizes with {sorted(len(v) for v in measured.values())} repetitions: 4 x 2 needed"
        )
    middle = {size: float(np.median(measured[size])) for size in sizes}
    rows, values = (np.array([pair[n] for size in sizes for pair in _pairs(size, measured)]) for n in (0, 1))
    noise, freedom = _noise(measured)
    per_row = max(0.0, (middle[sizes[-1]] - middle[sizes[-2]]) / (sizes[-1] - sizes[-2]))
    if middle[sizes[-1]] <= (1 + max(FLAT, 3 * noise)) * middle[sizes[0]]:
        return Growth(middle[sizes[0]], 0.0, None, None, per_row)
    (start, scale, exponent), error = _fitted(rows, values, noise)
    return Growth(start, scale, exponent, float(student.ppf(SURE, freedom)) * error, per_row)


def _pairs(size: float, measured: Mapping[float, Sequence[float]]) -> list[tuple[float, float]]:
    return [(size, value) for value in measured[size]]


def _noise(measured: Mapping[float, Sequence[float]]) -> tuple[float, int]:
    """Return the relative standard deviation of repetitions, pooled over the sizes, and its degrees of freedom."""
    deviations = [np.asarray(values, float) / np.mean(values) - 1 for values in measured.values()]
    freedom = sum(len(values) - 1 for values in deviations)
    return max(LEAST_NOISE, float(np.sqrt(sum((d**2).sum() for d in deviations) / freedom))), freedom


def _fitted(rows: Vector, values: Vector, noise: float) -> tuple[tuple[float, float, float], float]:
    """Return a, b, k and the standard error of k; rows and values are brought to 1 for the fit."""
    most, largest = rows.max(), values.max()
    x, y = rows / most, values / largest

    def curve(n: Vector, a: float, b: float, k: float) -> Vector:
        return a + b * n**k

    low = y[x == x.min()].mean()
    best, covariance = curve_fit(
        curve, x, y, p0=(low, 1 - low, 1.0), sigma=noise * y, absolute_sigma=True,
        bounds=([0, 0, 0], [np.inf, np.inf, 5]), max_nfev=10_000,
    )  # fmt: skip
    a, b, k = (float(value) for value in best)
    return (a * largest, b * largest / most**k, k), float(np.sqrt(covariance[2, 2]))
