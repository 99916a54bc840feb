"""Figures with intervals: what a variant was worth over any sessions, and by how much two of them differ.

Every figure is a function of sums by session; blocks of sessions are drawn with replacement (judging/bootstrap.py) and
the function is asked of each draw. Columns are those of the skill table in `models show`, and what ranks and returns
add to it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np
import polars as pl

from kstock_batch.judging.bootstrap import SEED, TAIL, Drawn, draw_means
from kstock_batch.judging.metrics import Floats, Integers, auc_by_group, calibration_error
from kstock_batch.judging.reliability import calibration_verdict

SESSIONS_A_YEAR = 245
LEAST = 10  # sessions: an interval of fewer says nothing
BINS = 100  # of probabilities, by which a pooled AUC is drawn
POOLED_DRAWS = 400
TINY = 1e-12
N_ROWS = pl.col("n")


@dataclass(frozen=True)
class Figure:
    """One number with its 90 % interval; None where it cannot be said."""

    metric: str
    value: float | None
    low: float | None
    high: float | None
    n_sessions: int

    def row(self) -> dict[str, Any]:
        """Return it as a row to store."""
        return vars(self).copy()


@dataclass(frozen=True)
class Measure:
    """A figure as a function of the means of some columns of the sessions' sums.

    Attributes
    ----------
    columns : expressions of the session table; each is divided by the sum of ``per``
    of : the figure, from an array (..., K) of means
    per : what the columns are means per: rows, sessions …
    """

    columns: tuple[pl.Expr, ...]
    of: Callable[[Floats], Floats]
    per: pl.Expr = N_ROWS


def _skill(means: Floats) -> Floats:
    skill: Floats = 100 * (1 - means[..., 0] / np.maximum(means[..., 1], TINY))
    return skill


def _first(means: Floats) -> Floats:
    return means[..., 0]


def _ratio(means: Floats) -> Floats:
    return means[..., 0] / np.maximum(means[..., 1], TINY)


def _mean_over_deviation(means: Floats) -> Floats:
    deviation = np.sqrt(np.maximum(means[..., 1] - means[..., 0] ** 2, TINY))
    found: Floats = means[..., 0] / deviation
    return found


_C = pl.col
_ONE = pl.lit(1.0)
MEASURES: Mapping[str, Measure] = {
    "log_loss": Measure((_C("log_loss_sum"),), _first),
    "brier_skill_pct": Measure((_C("brier_sum"), _C("base_brier_sum")), _skill),
    "brier_skill_vol_pct": Measure((_C("brier_sum"), _C("floor_brier_sum")), _skill),
    "auc_day": Measure((_C("auc"),), _first, _C("auc").is_not_null().cast(pl.Float64)),
    "auc_day_vol": Measure((_C("auc_vol_sum"),), _first, _C("n_auc_vol")),
    "auc_day_tenth": Measure((_C("auc_tenth_sum"),), _first, _C("n_auc_tenth")),
    "ic": Measure((_C("ic"),), _first, _C("ic").is_not_null().cast(pl.Float64)),
    "icir": Measure((_C("ic"), _C("ic") ** 2), _mean_over_deviation, _C("ic").is_not_null().cast(pl.Float64)),
    "base_rate": Measure((_C("n_hits"),), _first),
    "forecast": Measure((_C("probability_sum"),), _first),
    "mean_error_pct": Measure((100 * (_C("probability_sum") - _C("n_hits")),), _first),
    "top_hit_rate": Measure((_C("n_top_hits"),), _first, _C("n_top")),
    # Each session's top decile counts as much as any other's, as in the skill table.
    "lift": Measure((_C("n_top_hits") / _C("n_top"), _C("n_hits") / _C("n")), _ratio, _ONE),
    "top_excess_bp": Measure(
        (1e4 * (_C("top_return_sum") / _C("n_top") - _C("return_sum") / _C("n")),), _first, _ONE
    ),
}  # fmt: skip
# Of two variants on the same rows: positive means that the first is better.
PAIRED: Mapping[str, tuple[str, int]] = {
    "log_loss": ("log_loss", -1),
    "auc_day": ("auc_day", 1),
    "auc_day_vol": ("auc_day_vol", 1),
    "ic": ("ic", 1),
    "top_hit_rate": ("top_hit_rate", 1),
    "top_excess_bp": ("top_excess_bp", 1),
}


def figures(sessions: pl.DataFrame) -> list[Figure]:
    """Return every measure of one variant over ``sessions`` (rows of backtest_session), oldest first."""
    return [measured(name, measure, sessions) for name, measure in MEASURES.items()]


def differences(first: pl.DataFrame, second: pl.DataFrame) -> list[Figure]:
    """Return by how much ``first`` is better than ``second`` on the sessions that both judged, drawn together."""
    both = first.join(second, on="as_of", how="inner", suffix="_of_second", validate="1:1").sort("as_of")
    own = both.select(first.columns)
    other = both.select("as_of", pl.col("^.*_of_second$").name.map(lambda name: name.removesuffix("_of_second")))
    found = []
    for name, (measure, sign) in PAIRED.items():
        told = MEASURES[measure]
        one, two = (_sums(told, part) for part in (own, other))
        drawn_one, drawn_two = (_drawn(total, count) for total, count in (one, two))
        if drawn_one is None or drawn_two is None:
            found.append(Figure(name, None, None, None, both.height))
            continue
        value = sign * (told.of(drawn_one.mean) - told.of(drawn_two.mean))
        draws = sign * (told.of(drawn_one.means) - told.of(drawn_two.means))
        found.append(_figure(name, float(value), draws, both.height))
    return found


def return_figures(returns: Floats, benchmark: Floats | None = None) -> list[Figure]:
    """Return what daily net returns (S,) come to, and by how much they exceed ``benchmark`` (S,)."""
    each = pl.DataFrame({"r": returns})
    squared = (pl.col("r"), pl.col("r") ** 2)
    measures = {
        "return_pct_a_year": Measure((pl.col("r"),), lambda m: 100 * SESSIONS_A_YEAR * m[..., 0], _ONE),
        "volatility_pct_a_year": Measure(squared, _volatility, _ONE),
        "sharpe": Measure(squared, lambda m: sqrt(SESSIONS_A_YEAR) * _mean_over_deviation(m), _ONE),
    }
    found = [measured(name, measure, each) for name, measure in measures.items()]
    found.append(Figure("max_drawdown_pct", 100 * drawdown(returns), None, None, len(returns)))
    if benchmark is not None:
        excess = Measure((pl.col("r"),), lambda m: 100 * SESSIONS_A_YEAR * m[..., 0], _ONE)
        found.append(measured("excess_pct_a_year", excess, pl.DataFrame({"r": returns - benchmark})))
    return found


def drawdown(returns: Floats) -> float:
    """Return the largest loss from a high, as a share of it, 0 or negative."""
    if not len(returns):
        return float("nan")
    wealth = np.concatenate([[1.0], np.cumprod(1 + returns)])
    return float((wealth / np.maximum.accumulate(wealth) - 1).min())


def pooled_figures(p: Floats, y: Floats, session: Integers, tenth: Integers, *, drawn: bool) -> list[Figure]:
    """Return figures over all rows at once: the pooled AUC, that inside volatility tenths, the calibration error.

    With ``drawn`` they have intervals, of draws from the counts of BINS bins of the probability by session.
    """
    n_sessions = len(np.unique(session))
    number = np.unique(session, return_inverse=True)[1]
    whole = float(auc_by_group(p, y, np.zeros(len(p), dtype=np.int64)).mean())
    inside = auc_by_group(p, y, tenth).mean()
    if not drawn or n_sessions < LEAST:
        return [
            Figure(name, value if isfinite(value) else None, None, None, n_sessions)
            for name, value in (("auc", whole), ("auc_in_vol", float(inside)))
        ]
    of_all = _drawn_auc(p, y, number)
    of_tenths = np.stack([_drawn_auc(p[here], y[here], number[here], n_sessions) for here in _groups(tenth)])
    return [
        _figure("auc", whole, of_all[1:] - of_all[0] + whole, n_sessions),
        _figure("auc_in_vol", float(inside), (m := of_tenths.mean(axis=0))[1:] - m[0] + inside, n_sessions),
    ]


def calibration_figures(p: Floats, y: Floats, session: Integers, *, drawn: bool) -> list[Figure]:
    """Return the calibration error over twenty quantile bins, in percent; ``drawn``: also what of it no days explain.

    An error made of absolute values has no honest interval: every draw adds to it.
    """
    n_sessions = len(np.unique(session))
    found = [Figure("ece_pct", 100 * calibration_error(p, y), None, None, n_sessions)]
    if drawn and n_sessions >= LEAST:
        verdict = calibration_verdict(p, y, session)
        found.append(Figure("ece_beyond_days_pct", 100 * verdict.beyond_luck, None, None, n_sessions))
    return found


def _drawn_auc(p: Floats, y: Floats, number: Integers, n_sessions: int | None = None) -> Floats:
    """Return the AUC of the bins' counts as they are, then of each draw, (1 + D,)."""
    n = n_sessions or int(number.max(initial=-1)) + 1
    edges = np.quantile(p, np.linspace(0, 1, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, p, side="right")
    both = np.hstack([_by_session(number, bins, values, n, BINS) for values in (y, 1 - y)])
    drawn = draw_means(both, np.ones_like(both), draws=POOLED_DRAWS, seed=SEED)
    rows = np.vstack([drawn.mean, drawn.means])
    yes, no = np.maximum(rows[:, :BINS], 0), np.maximum(rows[:, BINS:], 0)
    below = np.cumsum(no, axis=1) - no
    auc: Floats = (yes * (below + no / 2)).sum(axis=1) / np.maximum(yes.sum(axis=1) * no.sum(axis=1), TINY)
    return auc


def _by_session(number: Integers, bins: Integers, values: Floats, n_sessions: int, n_bins: int) -> Floats:
    flat = np.bincount(number * n_bins + bins, values, minlength=n_sessions * n_bins)
    return flat.reshape(n_sessions, n_bins).astype(np.float64)


def _groups(group: Integers) -> Sequence[Integers]:
    return [np.flatnonzero(group == one) for one in np.unique(group)]


def _volatility(means: Floats) -> Floats:
    variance = np.maximum(means[..., 1] - means[..., 0] ** 2, 0)
    found: Floats = 100 * np.sqrt(SESSIONS_A_YEAR * variance)
    return found


def _sums(measure: Measure, sessions: pl.DataFrame) -> tuple[Floats, Floats]:
    """Return the columns and what they are means per, both (S, K)."""
    told = sessions.with_columns(
        *(
            column.cast(pl.Float64).fill_nan(None).fill_null(0).alias(f"#{n}")
            for n, column in enumerate(measure.columns)
        ),
        per=measure.per.cast(pl.Float64).fill_null(0),
    ).select("per", *(f"#{n}" for n in range(len(measure.columns))))  # with_columns: a literal has a value in every row
    total = told.drop("per").to_numpy()
    count = np.repeat(told["per"].to_numpy()[:, None], total.shape[1], axis=1)
    return total, count


def _drawn(total: Floats, count: Floats) -> Drawn | None:
    return draw_means(total, count) if len(total) >= LEAST and count.any() else None


def measured(name: str, measure: Measure, sessions: pl.DataFrame) -> Figure:
    """Return a measure over ``sessions``, oldest first, with its interval where there are enough of them."""
    total, count = _sums(measure, sessions)
    if not len(total) or not count.any():
        return Figure(name, None, None, None, sessions.height)
    drawn = _drawn(total, count)
    value = float(measure.of(total.sum(axis=0) / np.maximum(count.sum(axis=0), TINY)))
    if drawn is None:
        return Figure(name, value, None, None, sessions.height)
    return _figure(name, value, measure.of(drawn.means), sessions.height)


def _figure(name: str, value: float, draws: Floats, n_sessions: int) -> Figure:
    low, high = np.quantile(draws, [TAIL, 1 - TAIL])
    known = [one if isfinite(one) else None for one in (value, float(low), float(high))]
    return Figure(name, known[0], known[1], known[2], n_sessions)
