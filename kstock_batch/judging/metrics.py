"""How good probabilities are: float64 throughout, NaN where a metric has no meaning."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CLIP = 1e-6  # a certain mistake costs 13.8, not infinity
ECE_BINS = 20
QUINTILES = 5
TOP_SHARE = 0.1


@dataclass(frozen=True)
class Skill:
    """Metrics of one column of probabilities.

    Attributes
    ----------
    auc : pooled over everything: mostly volatility and market level
    auc_day : mean over sessions of the AUC within the session
    auc_day_vol : mean over sessions and volatility quintiles of the AUC inside: what is left without volatility
    log_loss, brier : mean per row; lower is better
    brier_skill_pct : Brier skill over the training base rate, percent
    brier_skill_vol_pct : Brier skill over the volatility floor, percent
    ece_pct : expected calibration error over 20 quantile bins, percent
    lift : mean hit rate of each session's top decile over the mean base rate of the sessions
    """

    auc: float
    auc_day: float
    auc_day_vol: float
    log_loss: float
    brier: float
    brier_skill_pct: float
    brier_skill_vol_pct: float
    ece_pct: float
    lift: float

    def row(self) -> dict[str, float | None]:
        """Return it as a row to print or to store; None where a metric has no meaning (JSON knows no NaN)."""
        return {name: None if np.isnan(value) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class GroupedAuc:
    """The AUC inside each group: ``group`` (G,) ascending, ``value`` (G,) NaN where only one outcome occurred."""

    group: Integers
    value: Floats

    def mean(self) -> float:
        """Return the mean over the groups that have one; NaN if none has."""
        known = self.value[~np.isnan(self.value)]
        return float(known.mean()) if len(known) else float("nan")


def skill(
    p: Floats,
    y: Floats,
    session: Integers,
    base_rate: float | Floats,
    *,
    atr_pct: Floats | None = None,
    volatility: Floats | None = None,
) -> Skill:
    """Return the metrics of probabilities ``p`` (N,) against outcomes ``y`` (N,) in {0, 1}.

    ``base_rate`` is one number, or (N,) where folds have rates of their own. Without ``atr_pct`` (N,) there is no
    ``auc_day_vol``; without the volatility floor's probabilities (N,) no ``brier_skill_vol_pct``.
    """
    return Skill(
        auc=auc(p, y),
        auc_day=auc_by_session(p, y, session),
        auc_day_vol=float("nan") if atr_pct is None else auc_by_group(p, y, volatility_cell(session, atr_pct)).mean(),
        log_loss=log_loss(p, y),
        brier=brier(p, y),
        brier_skill_pct=brier_skill_pct(p, np.broadcast_to(np.asarray(base_rate, dtype=np.float64), p.shape), y),
        brier_skill_vol_pct=float("nan") if volatility is None else brier_skill_pct(p, volatility, y),
        ece_pct=100 * calibration_error(p, y),
        lift=lift(p, y, session),
    )


def auc(p: Floats, y: Floats) -> float:
    """Return the probability that a positive row is ranked above a negative one; ties count half."""
    return auc_by_group(p, y, np.zeros(len(p), dtype=np.int64)).mean()


def auc_by_group(p: Floats, y: Floats, group: Integers) -> GroupedAuc:
    """Return the AUC inside each group of rows, by rank sums over one sort; ties count half."""
    order = _order_within(group, np.argsort(p))  # unstable and six times as fast: ties share a rank
    sorted_group, sorted_p, sorted_y = group[order], p[order], y[order]
    new_group = _starts(sorted_group)
    first = np.flatnonzero(new_group)
    if not len(first):
        return GroupedAuc(sorted_group, sorted_p)
    n = np.diff(np.append(first, len(order)))
    tie = np.flatnonzero(new_group | _starts(sorted_p))
    n_tied = np.diff(np.append(tie, len(order)))
    rank = np.repeat(tie + (n_tied + 1) / 2, n_tied) - np.repeat(first, n)  # average rank, from 1 in each group
    n_yes = np.add.reduceat(sorted_y, first)
    with np.errstate(invalid="ignore", divide="ignore"):  # one class only: 0 / 0, the NaN we want
        value = (np.add.reduceat(rank * sorted_y, first) - n_yes * (n_yes + 1) / 2) / (n_yes * (n - n_yes))
    return GroupedAuc(sorted_group[first], value)


def auc_by_session(p: Floats, y: Floats, session: Integers) -> float:
    """Return the mean AUC over sessions in which both outcomes occurred."""
    return auc_by_group(p, y, session).mean()


def volatility_cell(session: Integers, atr_pct: Floats) -> Integers:
    """Return which session and volatility quintile each row (N,) lies in, as session · 5 + quintile.

    Quintiles are those of the ordinal rank of ``atr_pct`` within the session: equal values are told apart by the
    order of the rows, so that a session of equal values still has five cells.
    """
    position, n = _position_in_session(session, _order_within(session, np.argsort(atr_pct, kind="stable")))
    cell: Integers = session * QUINTILES + position * QUINTILES // n
    return cell


def decile(p: Floats, session: Integers) -> Integers:
    """Return which tenth of its session each row (N,) lies in: 1 = the lowest, 10 = those that ``lift`` is about."""
    position, n = _position_in_session(session, _order_within(session, np.argsort(-p, kind="stable")))
    tenth: Integers = (n - 1 - position) * 10 // n + 1
    return tenth


def lift(p: Floats, y: Floats, session: Integers) -> float:
    """Return the mean hit rate of the sessions' top deciles over the sessions' mean base rate.

    A session of fewer than ten rows has no top decile and counts for the base rate only.
    """
    position, n = _position_in_session(session, _order_within(session, np.argsort(-p, kind="stable")))
    _, number = np.unique(session, return_inverse=True)
    top = position + 1 <= n * TOP_SHARE
    n_top, n_rows = np.bincount(number, top), np.bincount(number)
    hits, yes = np.bincount(number, top * y), np.bincount(number, y)
    rate = (yes / n_rows).mean() if len(n_rows) else 0.0
    has_top = n_top > 0
    return float((hits[has_top] / n_top[has_top]).mean() / rate) if rate and has_top.any() else float("nan")


def losses(p: Floats, y: Floats) -> Floats:
    """Return each row's negative log likelihood (N,)."""
    safe = np.clip(p, CLIP, 1 - CLIP)
    each: Floats = -(y * np.log(safe) + (1 - y) * np.log(1 - safe))
    return each


def log_loss(p: Floats, y: Floats) -> float:
    """Return the mean negative log likelihood."""
    return float(losses(p, y).mean())


def brier(p: Floats, y: Floats) -> float:
    """Return the mean squared error of probabilities."""
    return float(((p - y) ** 2).mean())


def brier_skill_pct(p: Floats, reference: Floats, y: Floats) -> float:
    """Return by how many percent the Brier score of ``p`` is below that of ``reference``."""
    at_reference = brier(reference, y)
    return 100 * (1 - brier(p, y) / at_reference) if at_reference else float("nan")


def calibration_error(p: Floats, y: Floats, bins: int = ECE_BINS) -> float:
    """Return the mean distance of forecast and frequency over ``bins`` quantile bins, weighted by rows."""
    of_bin = np.array_split(np.argsort(p, kind="stable"), bins)
    return float(sum(abs(p[rows].mean() - y[rows].mean()) * len(rows) for rows in of_bin if len(rows)) / len(p))


def _starts(values: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return where a run of equal values begins."""
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = values[1:] != values[:-1]
    return begins


def _order_within(group: Integers, order: Integers) -> Integers:
    """Return ``order`` (N,) sorted by ``group``, otherwise as it was.

    NumPy sorts 16-bit integers by radix, ten times as fast as 64-bit ones: groups are numbered from 0 where they fit.
    """
    lowest = group.min() if len(group) else 0
    fits = not len(group) or group.max() - lowest <= np.iinfo(np.uint16).max
    key = (group - lowest).astype(np.uint16) if fits else group
    within: Integers = order[np.argsort(key[order], kind="stable")]
    return within


def _position_in_session(session: Integers, order: Integers) -> tuple[Integers, Integers]:
    """Return each row's position, from 0, among its session's rows in ``order``, and how many those are."""
    first = np.flatnonzero(_starts(session[order]))
    n = np.diff(np.append(first, len(order)))
    position, n_rows = np.empty(len(order), dtype=np.int64), np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order)) - np.repeat(first, n)
    n_rows[order] = np.repeat(n, n)
    return position, n_rows
