"""Drift: whether what is served still is worth what was promised, told from the newest matured sessions.

The sessions judged are the champion's own once there are ``min_sessions`` of them, else all that were served lately: a
champion that is replaced every week would never be judged at all. Each is held against the promise of its own version.

The log-loss itself is no check: over 60 sessions that of an honest model goes from 0.43 to 0.59 with the market's mood,
and its own probabilities shuffled within each session were told from it in fewer than one window in ten. What the
market moves less is how far it stays below the volatility floor of the same night, and the AUC inside each session.

The limits were chosen on three years of out-of-sample KRX sessions (720, 2,200 stocks); tests/benchmarks/drift.py
measures what they come to, and docs/outcomes.md has the figures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from math import sqrt
from typing import Any

import polars as pl

from kstock_batch.judging.bootstrap import draw_means
from kstock_batch.judging.drift_verdict import DriftCheck, DriftVerdict
from kstock_batch.judging.reliability import calibration_verdict
from kstock_batch.market.contract import FEATURES

N_SPREAD = sum(feature.scope != "market_wide" for feature in FEATURES)  # features whose PSI is audited


@dataclass(frozen=True)
class DriftLimits:
    """From where on a model is watched, and from where on it has drifted; each pair is (watch, drifted).

    Attributes
    ----------
    n_sessions : judged at most; weeks long gone say little of tonight
    min_sessions : fewer judge one mood of the market, as in the gate
    certainty : that it is worse than promised, than the base rate, than the floor. Windows of neighbouring nights
        overlap: in a year of an honest model 0.998 alarmed in 6.5 of 100, 0.995 in 13, and 0.98 watched it in 39
    ece_pct : calibration error beyond what days explain. 2.5 is the gate's; one in 200 honest windows reached 4
    mean_pct : mean forecast from what came true, where days do not explain it. 1 is the gate's; resampled honest
        markets reached 7.5, log odds moved by 0.6 are beyond 10 in 61 … 76 %
    features_pct : of features on each of the last five sessions whose PSI audit warns. One feature out of 26 on all of
        them is worth a look; the worst week of 2021-2024 came to 10
    """

    n_sessions: int = 60
    min_sessions: int = 20
    certainty: tuple[float, float] = (0.98, 0.998)
    ece_pct: tuple[float, float] = (2.5, 4.0)
    mean_pct: tuple[float, float] = (1.0, 10.0)
    features_pct: tuple[float, float] = (3.8, 25.0)


def sessions_judged(cards: pl.DataFrame, model_version: str, limits: DriftLimits) -> pl.DataFrame:
    """Return the scorecards to judge by, oldest first; none if too few have matured."""
    newest = cards.sort("as_of")
    own = newest.filter(pl.col("model_version") == model_version)
    chosen = (own if own.height >= limits.min_sessions else newest).tail(limits.n_sessions)
    return chosen if chosen.height >= limits.min_sessions else chosen.clear()


def judge_drift(
    as_of: date,
    model_version: str,
    cards: pl.DataFrame,
    forecasts: pl.DataFrame,
    warned: Sequence[int],
    *,
    limits: DriftLimits,
) -> DriftVerdict:
    """Return the verdict of the night ``as_of`` on the champion ``model_version``.

    Parameters
    ----------
    cards : of ``sessions_judged``; columns of sql/judging/served_card.sql
    forecasts : probability and label_5d of the predictions of those sessions, with as_of
    warned : how many features the drift audit named on each of the newest sessions
    """
    days = cards["as_of"]
    looked_at = [*_against(cards, limits), *_calibration(forecasts, limits), *_features(warned, limits)]
    return DriftVerdict(
        as_of=as_of,
        model_version=model_version,
        n_sessions=cards.height,
        first_session=days[0] if cards.height else None,
        last_session=days[-1] if cards.height else None,
        checks=tuple(looked_at),
    )


def _against(cards: pl.DataFrame, limits: DriftLimits) -> Iterator[DriftCheck]:
    """Look at what can be told from sums: against the promise, the base rate and the floor."""
    n, loss, floor_loss, auc = pl.col("n"), pl.col("log_loss_sum"), pl.col("floor_log_loss_sum"), pl.col("auc")
    gain, promised = pl.col("promised_gain"), pl.col("promised_auc")
    brier, is_known = pl.col("brier_sum"), auc.is_not_null().cast(pl.Int64)
    wanted = (
        ("log_loss_promised", loss - floor_loss + gain * n, n, "log-loss below the volatility floor", "was promised"),
        ("auc_promised", promised - auc, is_known, "AUC within the session", "was promised"),
        ("brier_over_base", brier - pl.col("base_brier_sum"), n, "Brier score", "the base rate's"),
        ("brier_over_floor", brier - pl.col("floor_brier_sum"), n, "Brier score", "the volatility floor's"),
    )
    for name, total, count, what, than in wanted:
        known = cards.select(total=total, count=count, n_promised="n_promised").drop_nulls(["total", "count"])
        if known.height < limits.min_sessions:
            continue  # without a floor or a promise, as nights before them are, there is nothing to hold it against
        n_promised = known["n_promised"].min() if name.endswith("promised") else None
        mean, certainty = _certainty(known["total"], known["count"], n_promised)
        side = "worse" if mean > 0 else "better"
        told = f"its {what} is {abs(mean):.5f} {side} than {than} (that it is worse: {100 * certainty:.2f} % certain)"
        yield _check(name, certainty, limits.certainty, told)


def _certainty(total: pl.Series, count: pl.Series, n_promised: Any) -> tuple[float, float]:
    """Return the mean of sums by session (S,), and how certain ten-session blocks make it that it is above 0.

    A promise is a mean over ``n_promised`` sessions and no surer than they are many: the error is that of both.
    """
    from scipy.special import stdtr  # takes longer to import than a night without a verdict takes to say so

    sums, counts = (series.cast(pl.Float64).to_numpy()[:, None] for series in (total, count))
    drawn = draw_means(sums, counts)
    mean, error = float(drawn.mean[0]), float(drawn.error[0])
    error *= sqrt(1 + len(sums) / n_promised) if n_promised else 1.0
    return mean, float(stdtr(drawn.n_free, mean / error)) if error else float(mean > 0)


def _calibration(forecasts: pl.DataFrame, limits: DriftLimits) -> Iterator[DriftCheck]:
    if not forecasts.height:
        return
    p, y = (forecasts[name].cast(pl.Float64).to_numpy() for name in ("probability", "label_5d"))
    found = calibration_verdict(p, y, forecasts["as_of"].to_physical().cast(pl.Int64).to_numpy())
    beyond = 100 * found.beyond_luck
    told = f"its calibration error at the right mean is {beyond:.2f} points beyond the {100 * found.luck:.2f} that days"
    yield _check("calibration_error_pct", beyond, limits.ece_pct, f"{told} explain")
    error = 100 * found.mean_error
    unexplained = 0.0 if found.mean_is_luck else abs(error)
    told = f"its mean forecast is {error:+.2f} points from what came true, which days {{}}explain"
    told = told.format("" if found.mean_is_luck else "do not ")
    yield _check("mean_error_pct", unexplained, limits.mean_pct, told)


def _features(warned: Sequence[int], limits: DriftLimits) -> Iterator[DriftCheck]:
    if not warned:
        return
    share = 100 * sum(warned) / (N_SPREAD * len(warned))
    told = f"{share:.1f} % of the features lay unlike the month before, on the last {len(warned)} sessions together"
    yield _check("drifting_features_pct", share, limits.features_pct, told)


def _check(name: str, value: float, limits: tuple[float, float], sentence: str) -> DriftCheck:
    watch, drifted = limits
    state = "drifted" if value >= drifted else "watch" if value >= watch else "ok"
    told = sentence if state == "ok" else f"{sentence}; {state} from {drifted if state == 'drifted' else watch:g} on"
    return DriftCheck(name, state, value, watch, drifted, told)
