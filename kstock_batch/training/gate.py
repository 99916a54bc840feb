"""The gate between a retrained model and tonight's predictions: a challenger passes every check, or does not serve.

All comparisons are on the same out-of-sample rows, by session, with a paired day-block bootstrap:

1. base rate: its log-loss is below that of always saying the training base rate
2. floors: its log-loss is below those of the volatility floor and of the linear floor, and its AUC within session and
   volatility quintile is above theirs in more draws than not. Neither is asked for certainty: the market's level adds
   so much noise to log-loss that it would refuse every second good model, and where the truth is nearly linear a good
   model ranks but little better than the linear floor
3. calibration: at the right mean, bins miss their frequency by no more than ``max_ece_pct`` beyond what resampled
   days explain; and days explain the error of the mean itself, or it is small
4. champion, where both have honest probabilities: it is not worse in log-loss or in AUC within session and volatility
   quintile, worse being more than the margin *and* in ``max_share_worse`` of the draws. Certainty alone refuses the
   same learner with another seed (up to one in three pairs: their difference is tiny, and so is its noise); a margin
   alone refuses whoever had the worse days

The limits were chosen on three years of out-of-sample KRX sessions (2,200 stocks; base rates of 6 % … 54 % on nine
sessions of ten), their blocks of ten drawn anew into markets of 140 sessions:

- refused as worse than the champion: the same learner with another seed, or with levels that wander by ± 0.1 of log
  odds, in 0 … 1 % (of 70 sessions: 1 … 4 %); one spoilt by noise until it is 1 % worse in log-loss or 0.01 in AUC in
  100 %; one mixed with the volatility floor until it is 1 % worse in 96 %, 0.01 worse in AUC in 90 %; one
  overconfident until it is 1 % worse in 68 %: in the other markets the days favoured it
- passed by the floors: an honest learner, 1.1 % better than both, in 87 % (70 sessions: 78 %, 240: 97 %); the
  volatility floor with a little noise in none; the mean of the two floors, which is now and then better than either,
  in 18 % (asked for three draws of four: honest learners 86, 74 and 97 %, the mean of the floors 5 %)
- passed by calibration: honest learners in 90 … 97 %; log odds twice as steep in 8 %, moved by 0.3 in 27 %
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from kstock_batch.judging.bootstrap import Difference, auc_difference, log_loss_difference
from kstock_batch.judging.metrics import Floats, log_loss
from kstock_batch.judging.reliability import calibration_verdict

FLOORS = ("volatility", "linear")
REQUIRED = ("session", "label", "atr_pct", "challenger", "base", *FLOORS)

Known = NDArray[np.bool_]
Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Limits:
    """What a challenger may be, and still serve.

    Attributes
    ----------
    max_ece_pct : calibration error at the right mean, beyond what days explain. Honest models showed up to 2.4 on 70
        sessions and 2.1 on 140; log odds twice as steep show 4.0 in the median
    max_mean_error_pct : an error of the mean up to this one is small, whatever days explain
    margin_log_loss_pct : percent of the champion's log-loss
    margin_auc : of the AUC within session and volatility quintile
    max_share_worse : share of draws from which on "worse than the champion" is no accident
    max_floor_share_worse : share of draws in which a floor may rank better; 1 leaves the ranking unjudged
    min_sessions : fewer judge one mood of the market: no challenger is judged, no champion compared
    """

    max_ece_pct: float = 2.5
    max_mean_error_pct: float = 1.0
    margin_log_loss_pct: float = 0.4
    margin_auc: float = 0.004
    max_share_worse: float = 0.8
    max_floor_share_worse: float = 0.5
    min_sessions: int = 20


@dataclass(frozen=True)
class Check:
    """One thing that was asked of the challenger; ``sentence`` is true whether it passed or not."""

    name: str
    value: float
    limit: float
    passed: bool
    sentence: str

    def row(self) -> dict[str, Any]:
        """Return it as a row to print or to store; None where there is no number (JSON knows no NaN)."""
        return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Verdict:
    """All checks of one challenger."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Return whether the challenger may serve."""
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """Return one sentence with the values that decided: of the failed checks, or of all if none failed."""
        if failed := [check.sentence for check in self.checks if not check.passed]:
            return "; ".join(failed)
        values = ", ".join(f"{check.name} {check.value:.5g} (limit {check.limit:.5g})" for check in self.checks)
        return f"it passed {len(self.checks)} checks: {values}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per check, to print."""
        return [check.row() for check in self.checks]

    def as_json(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return {"passed": self.passed, "reason": self.reason, "checks": self.rows()}


def judge_challenger(rows: pl.DataFrame | Mapping[str, ArrayLike], limits: Limits | None = None) -> Verdict:
    """Return the verdict on a challenger from out-of-sample rows.

    Parameters
    ----------
    rows
        Columns (N,): ``session`` (any increasing number of it), ``label`` in {0, 1}, ``atr_pct``, and probabilities
        ``challenger``, ``base``, ``volatility``, ``linear``; optional ``champion``. NaN or null is "not known": floors
        and the champion are compared where they are known, the challenger must be known everywhere.
    limits
        Defaults to ``Limits()``.
    """
    limits = limits or Limits()
    columns = _columns(rows)
    n_sessions = len(np.unique(columns["session"]))
    first = (_probabilities(columns["challenger"]), _sessions(n_sessions, limits))
    if not all(check.passed for check in first):
        return Verdict(first)
    later = (_against_base(columns), *_floors(columns, limits), *_calibration(columns, limits))
    return Verdict((*first, *later, *_champion(columns, limits)))


def _columns(rows: pl.DataFrame | Mapping[str, ArrayLike]) -> Columns:
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(dict(rows))
    if missing := [name for name in REQUIRED if name not in frame.columns]:
        raise ValueError(f"rows to judge lack columns {missing}")
    kept = [*REQUIRED, *(["champion"] if "champion" in frame.columns else [])]
    floats = frame.select(pl.col(kept).exclude("session").cast(pl.Float64), pl.col("session").cast(pl.Int64))
    columns = {name: floats[name].to_numpy() for name in kept}  # null becomes NaN
    if not np.isin(columns["label"], (0, 1)).all():
        raise ValueError("a label to judge by is neither 0 nor 1")
    return columns


def _probabilities(p: Floats) -> Check:
    """Return whether every row has a probability: what cannot be scored cannot serve."""
    n_bad = int((~((p >= 0) & (p <= 1))).sum())
    return Check("probabilities", n_bad, 0, not n_bad, f"{n_bad:,} of {len(p):,} rows have no probability")


def _sessions(n_sessions: int, limits: Limits) -> Check:
    needed = limits.min_sessions
    sentence = f"it was judged on {n_sessions} sessions, {needed} are needed"
    return Check("sessions", n_sessions, needed, n_sessions >= needed, sentence)


def _against_base(columns: Columns) -> Check:
    found = _log_loss(columns, "base", ~np.isnan(columns["base"]))
    return Check("base_rate_log_loss", found.mean, 0.0, found.mean < 0, _told(found, "log-loss", "the base rate"))


def _floors(columns: Columns, limits: Limits) -> Iterator[Check]:
    for floor in FLOORS:
        known = ~np.isnan(columns[floor])
        found = _log_loss(columns, floor, known)
        told = _told(found, "log-loss", f"the {floor} floor")
        yield Check(f"{floor}_log_loss", found.mean, 0.0, found.mean < 0, told)
        found, limit = _auc(columns, floor, known), limits.max_floor_share_worse
        told = _told(found, "AUC", f"the {floor} floor") + f" ({limit:.0%} are allowed)"
        yield Check(f"{floor}_auc", found.share_worse, limit, limit >= 1 or found.share_worse <= limit, told)


def _calibration(columns: Columns, limits: Limits) -> Iterator[Check]:
    found = calibration_verdict(columns["challenger"], columns["label"], columns["session"])
    beyond = 100 * found.beyond_luck
    yield Check(
        "calibration_error_pct",
        beyond,
        limits.max_ece_pct,
        beyond <= limits.max_ece_pct,
        f"its calibration error at the right mean is {beyond:.2f} points beyond the {100 * found.luck:.2f} that days"
        f" explain, {limits.max_ece_pct:.2f} are allowed",
    )
    error = 100 * found.mean_error
    yield Check(
        "mean_error_pct",
        error,
        limits.max_mean_error_pct,
        found.mean_is_luck or abs(error) <= limits.max_mean_error_pct,
        f"its mean is {error:+.2f} points from what came true, days alone explain"
        f" {100 * (found.mean_error - found.mean_high):+.2f} … {100 * (found.mean_error - found.mean_low):+.2f}",
    )


def _champion(columns: Columns, limits: Limits) -> Iterator[Check]:
    known = ~np.isnan(columns["champion"]) if "champion" in columns else np.zeros(len(columns["label"]), dtype=bool)
    n_sessions = len(np.unique(columns["session"][known]))
    if n_sessions < limits.min_sessions:
        told = f"no champion to compare with: {n_sessions} sessions in common, {limits.min_sessions} are needed"
        yield Check("champion", n_sessions, limits.min_sessions, True, told)
        return
    found = _log_loss(columns, "champion", known)
    margin = limits.margin_log_loss_pct / 100 * log_loss(columns["champion"][known], columns["label"][known])
    yield _not_worse("champion_log_loss", found, "log-loss", margin, limits)
    yield _not_worse("champion_auc", _auc(columns, "champion", known), "AUC", limits.margin_auc, limits)


def _not_worse(name: str, found: Difference, metric: str, margin: float, limits: Limits) -> Check:
    """Return whether the challenger is within the margin, or too few draws say that it is worse at all."""
    passed = found.mean <= margin or found.share_worse < limits.max_share_worse
    told = (
        f"{_told(found, metric, 'the champion')}; refused if worse by {margin:.5f} and in {limits.max_share_worse:.0%}"
    )
    return Check(name, found.mean, margin, passed, told)


def _log_loss(columns: Columns, other: str, known: Known) -> Difference:
    first, second, y, session = (columns[name][known] for name in ("challenger", other, "label", "session"))
    return log_loss_difference(first, second, y, session)


def _auc(columns: Columns, other: str, known: Known) -> Difference:
    names = ("challenger", other, "label", "session", "atr_pct")
    first, second, y, session, atr_pct = (columns[name][known] for name in names)
    return auc_difference(first, second, y, session, atr_pct)


def _told(found: Difference, metric: str, other: str) -> str:
    """Return who is better by how much, and in how many draws; positive is worse."""
    where = " within session and volatility quintile" if metric == "AUC" else ""
    if not isfinite(found.mean):
        return f"its {metric}{where} cannot be compared with {other}'s on {found.n_sessions} sessions"
    side = "worse" if found.mean > 0 else "better"
    return (
        f"its {metric}{where} is {abs(found.mean):.5f} {side} than that of {other}"
        f" (from {found.low:+.5f} to {found.high:+.5f} in 90 % of draws, worse in {found.share_worse:.0%})"
    )
