"""Reliability: what came true of what was forecast, bin by bin, and what of it is the market's level alone.

The realised base rate of a few months wanders by several points, because whole days move together. An error of the
mean is therefore judged by resampling days; the error of the shape, which a model makes on any market, is what
remains once all odds are multiplied by the one factor that brings the mean forecast to the mean outcome - and of
that again some is the days' alone, for on a falling day volatile stocks fall most.
"""

from dataclasses import asdict, dataclass

import numpy as np

from kstock_batch.judging.bootstrap import draw_means
from kstock_batch.judging.metrics import ECE_BINS, Floats, Integers, calibration_error

MEAN_TAIL = 0.01  # on each side of the mean error's interval: one honest model in fifty is outside
SHIFT_TOLERANCE = 1e-12  # of log odds
ODDS_LIMIT = 60.0  # of log odds: half of it is certainty to 1e-13, and the other half can undo it


@dataclass(frozen=True)
class ReliabilityCurve:
    """Quantile bins of the forecast, lowest first.

    Attributes
    ----------
    n : (B,) rows
    forecast : (B,) mean probability
    frequency : (B,) share that came true
    """

    n: Integers
    forecast: Floats
    frequency: Floats

    def rows(self) -> list[dict[str, float]]:
        """Return one row per bin, to print or to store."""
        return [
            {"n": int(n), "forecast": float(forecast), "frequency": float(frequency)}
            for n, forecast, frequency in zip(self.n, self.forecast, self.frequency, strict=True)
        ]


@dataclass(frozen=True)
class BrierParts:
    """Murphy's decomposition over bins, made exact by what happens inside them (Stephenson, Coelho, Jolliffe 2008).

    brier = reliability - resolution + uncertainty + within_variance - within_covariance

    Attributes
    ----------
    reliability : mean squared distance of forecast and frequency; 0 is perfect
    resolution : mean squared distance of the bins' frequencies from the base rate; more is better
    uncertainty : base rate times one minus itself: nobody's merit or fault
    within_variance : mean square of p - its bin's mean forecast
    within_covariance : twice the mean product of that with y - its bin's frequency: skill that bins hide
    """

    reliability: float
    resolution: float
    uncertainty: float
    within_variance: float
    within_covariance: float

    def brier(self) -> float:
        """Return the Brier score that the parts add up to."""
        explained = self.reliability - self.resolution + self.uncertainty
        return explained + self.within_variance - self.within_covariance

    def row(self) -> dict[str, float]:
        """Return it as a row to print or to store."""
        return asdict(self)


@dataclass(frozen=True)
class CalibrationVerdict:
    """What is wrong with the probabilities of a block of sessions, and how much of it days alone explain.

    Attributes
    ----------
    shape : calibration error that is left at the right mean
    luck : mean shape error of a perfectly calibrated model over resampled days
    mean_error : mean forecast minus frequency
    mean_low, mean_high : 98 % interval of the mean error over resampled days
    """

    shape: float
    luck: float
    mean_error: float
    mean_low: float
    mean_high: float

    @property
    def beyond_luck(self) -> float:
        """Return the shape error that days do not explain."""
        return max(0.0, self.shape - self.luck)

    @property
    def mean_is_luck(self) -> bool:
        """Return whether days explain the mean error."""
        return self.mean_low <= 0 <= self.mean_high


def calibration_verdict(p: Floats, y: Floats, session: Integers, bins: int = ECE_BINS) -> CalibrationVerdict:
    """Return what is wrong with probabilities ``p`` (N,) against ``y`` (N,) on two sessions or more.

    Luck is what blocks of sessions, drawn again and again, add to the gap of forecast and frequency in each bin.
    """
    sessions, number = np.unique(session, return_inverse=True)
    centred, n_sessions = at_mean(p, float(y.mean())), len(sessions)
    cell = number * bins + _bin_numbers(centred, bins)
    gaps, counts = (
        np.bincount(cell, weights, minlength=n_sessions * bins).reshape(n_sessions, bins)  # (S, B)
        for weights in (centred - y, None)
    )
    drawn, share = draw_means(gaps, counts), counts.sum(axis=0) / len(p)
    gap = np.nan_to_num(drawn.mean)
    without_mean = np.nan_to_num(drawn.means) - (np.nan_to_num(drawn.means) @ share)[:, None]
    error = draw_means(np.bincount(number, p - y)[:, None], np.bincount(number)[:, None])
    low, high = np.quantile(error.means[:, 0], [MEAN_TAIL, 1 - MEAN_TAIL])
    return CalibrationVerdict(
        shape=float(np.abs(gap) @ share),
        luck=float((np.abs(without_mean - gap) @ share).mean()),
        mean_error=float(error.mean[0]),
        mean_low=float(low),
        mean_high=float(high),
    )


def reliability_curve(p: Floats, y: Floats, bins: int = ECE_BINS) -> ReliabilityCurve:
    """Return the curve of probabilities ``p`` (N,) and outcomes ``y`` (N,), as the calibration error bins them."""
    number = _bin_numbers(p, bins)
    n = np.bincount(number)
    return ReliabilityCurve(n, np.bincount(number, p) / n, np.bincount(number, y) / n)


def brier_parts(p: Floats, y: Floats, bins: int = ECE_BINS) -> BrierParts:
    """Return the parts of the Brier score of ``p`` (N,) against ``y`` (N,)."""
    number, curve = _bin_numbers(p, bins), reliability_curve(p, y, bins)
    base_rate, share = float(y.mean()), curve.n / len(p)
    p_within, y_within = p - curve.forecast[number], y - curve.frequency[number]
    return BrierParts(
        reliability=float(share @ (curve.forecast - curve.frequency) ** 2),
        resolution=float(share @ (curve.frequency - base_rate) ** 2),
        uncertainty=base_rate * (1 - base_rate),
        within_variance=float((p_within**2).mean()),
        within_covariance=float(2 * (p_within * y_within).mean()),
    )


def shape_error(p: Floats, y: Floats) -> float:
    """Return the calibration error that is left at the right mean."""
    return calibration_error(at_mean(p, float(y.mean())), y)


def at_mean(p: Floats, mean: float) -> Floats:
    """Return ``p`` (N,) with all odds multiplied by the one factor that makes their mean ``mean``."""
    if not 0 < mean < 1:
        return np.full_like(p, mean)
    with np.errstate(divide="ignore"):
        odds = np.clip(np.log(p) - np.log1p(-p), -ODDS_LIMIT / 2, ODDS_LIMIT / 2)
    return _sigmoid(odds + _shift_to(odds, mean))


def _shift_to(odds: Floats, mean: float) -> float:
    """Return what, added to log ``odds`` (N,), makes their mean probability ``mean``.

    Newton's steps, halved into the bracket where they leave it: it is closed from both sides, so this always ends.
    """
    low, high, shift = -ODDS_LIMIT, ODDS_LIMIT, 0.0
    while high - low > SHIFT_TOLERANCE:
        p = _sigmoid(odds + shift)
        error, slope = float(p.mean()) - mean, float((p * (1 - p)).mean())
        if not error:
            break
        low, high = (low, shift) if error > 0 else (shift, high)
        step = error / slope if slope else float("inf")
        if abs(step) < SHIFT_TOLERANCE:
            return shift - step
        shift = shift - step if low < shift - step < high else (low + high) / 2
    return shift


def _sigmoid(z: Floats) -> Floats:
    p: Floats = 0.5 * (np.tanh(0.5 * z) + 1)
    return p


def _bin_numbers(p: Floats, bins: int) -> Integers:
    """Return each row's quantile bin, from 0; bins of nothing do not exist."""
    order = np.argsort(p, kind="stable")
    number = np.empty(len(p), dtype=np.int64)
    number[order] = np.repeat(np.arange(bins), [len(part) for part in np.array_split(order, bins)])
    return number
