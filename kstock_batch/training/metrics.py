"""How good probabilities are: float64 throughout, NaN where a metric has no meaning."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]

CLIP = 1e-6  # as in the skill table: a certain mistake costs 13.8, not infinity
ECE_BINS = 20


@dataclass(frozen=True)
class Skill:
    """Metrics of one column of probabilities.

    Attributes
    ----------
    auc : pooled over everything: mostly volatility and market level
    auc_day : mean over sessions of the AUC within the session
    log_loss, brier : mean per row; lower is better
    brier_skill_pct : Brier skill over the training base rate, percent
    ece_pct : expected calibration error over 20 quantile bins, percent
    """

    auc: float
    auc_day: float
    log_loss: float
    brier: float
    brier_skill_pct: float
    ece_pct: float

    def row(self) -> dict[str, float | None]:
        """Return it as a row to print or to store; None where a metric has no meaning (JSON knows no NaN)."""
        return {name: None if np.isnan(value) else value for name, value in asdict(self).items()}


def skill(p: Floats, y: Floats, session: NDArray[np.int64], base_rate: float) -> Skill:
    """Return the metrics of probabilities ``p`` (N,) against outcomes ``y`` (N,) in {0, 1}."""
    at_base = brier(np.full_like(p, base_rate), y)
    return Skill(
        auc=auc(p, y),
        auc_day=auc_by_session(p, y, session),
        log_loss=log_loss(p, y),
        brier=brier(p, y),
        brier_skill_pct=100 * (1 - brier(p, y) / at_base) if at_base else float("nan"),
        ece_pct=100 * calibration_error(p, y),
    )


def auc(p: Floats, y: Floats) -> float:
    """Return the probability that a positive row is ranked above a negative one; ties count half."""
    n_yes = float(y.sum())
    n_no = len(y) - n_yes
    if not n_yes or not n_no:
        return float("nan")
    return float((np.asarray(rankdata(p))[y > 0].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))


def auc_by_session(p: Floats, y: Floats, session: NDArray[np.int64]) -> float:
    """Return the mean AUC over sessions in which both outcomes occurred."""
    order = np.argsort(session, kind="stable")
    cuts = np.flatnonzero(np.diff(session[order])) + 1
    values = [auc(p[rows], y[rows]) for rows in np.split(order, cuts)]
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def log_loss(p: Floats, y: Floats) -> float:
    """Return the mean negative log likelihood."""
    safe = np.clip(p, CLIP, 1 - CLIP)
    return float(-(y * np.log(safe) + (1 - y) * np.log(1 - safe)).mean())


def brier(p: Floats, y: Floats) -> float:
    """Return the mean squared error of probabilities."""
    return float(((p - y) ** 2).mean())


def calibration_error(p: Floats, y: Floats, bins: int = ECE_BINS) -> float:
    """Return the mean distance of forecast and frequency over ``bins`` quantile bins, weighted by rows."""
    of_bin = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(abs(p[rows].mean() - y[rows].mean()) * len(rows) for rows in of_bin if len(rows)) / len(p))
