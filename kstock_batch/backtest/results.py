"""All that a finished walk comes to, as the rows of the store's tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from kstock_batch.backtest.assembled import BLEND, Assembled
from kstock_batch.backtest.costs import FREE, Costs
from kstock_batch.backtest.figures import (
    SESSIONS_A_YEAR,
    Figure,
    Measure,
    calibration_figures,
    figures,
    measured,
    pooled_figures,
    return_figures,
)
from kstock_batch.backtest.market import Market, moods
from kstock_batch.backtest.portfolio import Course, highest, trade
from kstock_batch.backtest.sessions_judged import judge, volatility_tenth
from kstock_batch.learners.linear import FLOORS
from kstock_batch.learners.members import MEMBER_NAMES

UNIVERSE = "universe"
PORTFOLIOS: Mapping[str, tuple[str, float, int | None]] = {
    "top decile": (BLEND, 0.1, None),
    "top 50": (BLEND, 1.0, 50),
    "top 20": (BLEND, 1.0, 20),
    "volatility's top decile": ("volatility", 0.1, None),
    UNIVERSE: (BLEND, 1.0, None),
}
_KEYS = ("ticker", "as_of", "atr_pct", "base_rate", "label_5d", "forward_return", "known_on", "is_delisted")


@dataclass(frozen=True)
class Results:
    """Rows of the backtest_* tables, less the backtest's name."""

    refits: pl.DataFrame
    predictions: pl.DataFrame
    sessions: pl.DataFrame
    deciles: pl.DataFrame
    metrics: pl.DataFrame
    portfolios: pl.DataFrame


def results_of(assembled: Sequence[Assembled], market: Market, costs: Costs) -> Results:
    """Return what ``assembled`` refits come to together."""
    rows = pl.concat([one.rows.with_columns(refit=pl.lit(one.refit.as_of)) for one in assembled], how="diagonal")
    rows = rows.sort("as_of", "ticker")
    names = [name for name in rows.columns if name not in (*_KEYS, "refit")]
    mood = moods(market, rows["as_of"].unique().sort().to_list())
    judged = {name: judge(rows, name) for name in names}
    sessions = {name: one.sessions.join(mood, on="as_of", validate="1:1").sort("as_of") for name, one in judged.items()}
    known = rows.filter(pl.col("label_5d").is_not_null()).join(mood, on="as_of", maintain_order="left", validate="m:1")
    metrics = [
        {"variant": name, "scope": scope, **figure.row()}
        for name, table in sessions.items()
        for scope, where in _scopes(table).items()
        for figure in (*figures(table.filter(where)), *_of_rows(known.filter(where), name))
    ]
    deciles = [row for scope, where in _scopes(sessions[BLEND]).items() for row in _tenths(judged, mood, where, scope)]
    courses = {
        name: trade(market, highest(rows, by, market, share=share, most=most), costs)
        for name, (by, share, most) in PORTFOLIOS.items()
    }
    free = {
        name: trade(market, highest(rows, by, market, share=share, most=most), FREE)
        for name, (by, share, most) in PORTFOLIOS.items()
    }
    metrics += _traded(courses, free)
    return Results(
        refits=pl.DataFrame([_refit_row(one) for one in assembled]),
        predictions=_predictions(rows),
        sessions=pl.concat(sessions.values()),
        deciles=pl.DataFrame(deciles),
        metrics=pl.DataFrame(metrics, schema_overrides={"value": pl.Float64, "low": pl.Float64, "high": pl.Float64}),
        portfolios=pl.concat([c.daily.with_columns(portfolio=pl.lit(name)) for name, c in courses.items()]),
    )


def _scopes(table: pl.DataFrame) -> dict[str, pl.Expr]:
    """Return which sessions each scope holds: all, each year, each trend, each mood."""
    years = table["as_of"].dt.year().unique().sort().to_list()
    return {
        "all": pl.lit(True),
        **{str(year): pl.col("as_of").dt.year() == year for year in years},
        **{f"trend {name}": pl.col("trend") == name for name in ("up", "down")},
        **{f"mood {name}": pl.col("mood") == name for name in ("calm", "usual", "stormy")},
    }


def _of_rows(rows: pl.DataFrame, variant: str) -> list[Figure]:
    """Return the figures that no sums by session give; only the blend's pooled AUC gets an interval, for it is slow."""
    rows = rows.filter(pl.col(variant).is_not_nan())
    if rows.is_empty():
        return []
    p, y, atr_pct = (rows[name].cast(pl.Float64).to_numpy() for name in (variant, "label_5d", "atr_pct"))
    session = rows["as_of"].rank("dense").cast(pl.Int64).to_numpy() - 1
    tenth = volatility_tenth(atr_pct, session)
    pooled = pooled_figures(p, y, session, tenth, drawn=variant == BLEND)
    return [*pooled, *calibration_figures(p, y, session, drawn=variant == BLEND)]


def _tenths(judged: Mapping[str, Any], mood: pl.DataFrame, where: pl.Expr, scope: str) -> list[dict[str, Any]]:
    """Return hit rates and returns by tenths of the session, of the blend and of both floors."""
    found = []
    for name in (BLEND, *FLOORS):
        table = judged[name].deciles.join(mood, on="as_of", validate="m:1").filter(where).sort("as_of")
        for (tenth,), part in table.group_by("decile", maintain_order=True):
            hits = measured("hit_rate", Measure((pl.col("n_hits"),), lambda means: means[..., 0]), part)
            n = int(part["n"].sum())
            found.append(
                {"variant": name, "scope": scope, "decile": tenth, "n": n}
                | {"forecast": part["probability_sum"].sum() / n, "hit_rate": part["n_hits"].sum() / n}
                | {"low": hits.low, "high": hits.high, "mean_return_pct": 100 * part["return_5d_sum"].sum() / n}
            )
    return sorted(found, key=lambda row: (row["variant"], row["decile"]))


def _traded(courses: Mapping[str, Course], free: Mapping[str, Course]) -> list[dict[str, Any]]:
    found = []
    against, freely = courses[UNIVERSE].daily, free[UNIVERSE].daily["net_return"].to_numpy()
    for name, course in courses.items():
        for scope, here in _years(course.daily).items():
            net = course.daily["net_return"].to_numpy()[here]
            other = None if name == UNIVERSE else against["net_return"].to_numpy()[here]
            gross = free[name].daily["net_return"].to_numpy()[here]
            told = return_figures(net, other)
            told += [
                replace(one, metric=f"gross_{one.metric}")
                for one in return_figures(gross, None if other is None else freely[here])
                if one.metric in ("return_pct_a_year", "excess_pct_a_year")
            ]
            untraded = Measure((pl.col("r"),), lambda means: 100 * SESSIONS_A_YEAR * means[..., 0], pl.lit(1.0))
            beyond = pl.DataFrame({"r": net - freely[here]})
            told.append(measured("excess_over_untraded_pct_a_year", untraded, beyond))
            told += _paid(course, here)
            found += [{"variant": name, "scope": scope, **one.row()} for one in told]
        found += [{"variant": name, "scope": "all", **one.row()} for one in _orders(course)]
    return found


def _years(daily: pl.DataFrame) -> dict[str, Any]:
    years = daily["as_of"].dt.year().to_numpy()
    return {"all": np.ones(len(years), dtype=bool)} | {str(year): years == year for year in np.unique(years)}


def _paid(course: Course, here: Any) -> list[Figure]:
    """Return turnover and what trading cost: plain facts, which have no interval."""
    part = course.daily.filter(pl.Series(here))
    plain = {
        "turnover_pct_a_session": 100 * part["bought"].mean(),  # type: ignore[operator]  # of numbers
        "costs_pct_a_year": 100 * SESSIONS_A_YEAR * part["costs"].mean(),  # type: ignore[operator]
        "tax_pct_a_year": 100 * SESSIONS_A_YEAR * part["tax"].mean(),  # type: ignore[operator]
        "held": part["n_held"].mean(),
    }
    return [Figure(name, float(value), None, None, part.height) for name, value in plain.items()]  # type: ignore[arg-type]


def _orders(course: Course) -> list[Figure]:
    tenth, half = course.capacity_won
    plain = {
        "orders": course.n_wanted,
        "orders_halted": course.n_halted,
        "orders_at_upper_limit": course.n_limited,
        "sold_late": course.n_late,
        "delisted_while_held": course.n_delisted,
        "capacity_won": tenth,
        "capacity_won_of_half": half,
    }
    return [Figure(name, None if v is None else float(v), None, None, course.daily.height) for name, v in plain.items()]


def _refit_row(one: Assembled) -> dict[str, Any]:
    facts = one.facts
    return {
        "refit": one.refit.as_of,
        "first_session": one.refit.first,
        "last_session": one.refit.last,
        "train_first": facts["train_first"],
        "train_last": facts["train_last"],
        "n_windows": facts["n_windows"],
        "n_fitted": one.refit.n_fitted,
        "base_rate": facts["base_rate"],
        "weights": json.dumps(dict(one.weights.values)),
        "weights_are": one.weights.note,
        "durations": json.dumps(facts["durations"]),
        "over_budget": json.dumps(facts["over_budget"]),
        "gate_passed": one.verdict.passed,
        "gate_reason": one.verdict.reason,
        "n_predictions": one.rows.height,
        "seconds": float(sum(facts["stages"].values())),
    }


def _predictions(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of backtest_prediction: what would have been published; other variants are in the sums."""
    absent = pl.lit(None, dtype=pl.Float32)
    numbers = ("volatility", "linear", "base_rate", "forward_return")
    return rows.select(
        *("as_of", "ticker", "refit", "label_5d"),
        pl.col(BLEND).cast(pl.Float32).alias("probability"),
        *((pl.col(name).cast(pl.Float32) if name in rows.columns else absent.alias(name)) for name in MEMBER_NAMES),
        *(pl.col(name).cast(pl.Float32) for name in numbers),
    )
