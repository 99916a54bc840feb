"""The page of one backtest: tables and drawings in one HTML file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from kstock_batch import __version__
from kstock_batch.backtest import charts
from kstock_batch.backtest.assembled import BLEND
from kstock_batch.backtest.results import PORTFOLIOS
from kstock_batch.backtest.shown import SHOWN, BacktestFacts, told

Cells = Sequence[Sequence[str]]
TRADED = {
    "return_pct_a_year": "return, % a year",
    "excess_pct_a_year": "beyond the universe at the same costs, % a year",
    "excess_over_untraded_pct_a_year": "beyond the universe held at no cost, % a year",
    "gross_return_pct_a_year": "return before costs, % a year",
    "volatility_pct_a_year": "volatility, % a year",
    "sharpe": "Sharpe ratio",
    "max_drawdown_pct": "largest drawdown, %",
    "turnover_pct_a_session": "turnover, % a session",
    "costs_pct_a_year": "commission and slippage, % a year",
    "tax_pct_a_year": "transaction tax, % a year",
    "orders": "orders to buy",
    "orders_halted": "not filled: halted",
    "orders_at_upper_limit": "not filled: at the upper limit",
    "sold_late": "sold later than wanted",
    "delisted_while_held": "delisted while held",
    "capacity_won": "capital at which nine of ten orders fit, won",
    "capacity_won_of_half": "capital at which half of them fit, won",
}
NAMED = {
    "auc_day": "AUC in session",
    "auc_day_vol": "AUC in session and volatility quintile",
    "log_loss": "log-loss",
    "brier_skill_pct": "Brier skill over the base rate, %",
    "brier_skill_vol_pct": "Brier skill over volatility, %",
    "ece_pct": "calibration error, points",
    "ic": "rank IC",
    "icir": "ICIR",
    "lift": "lift of the top decile",
    "top_excess_bp": "top decile beyond the session, bp in 5 sessions",
}


def render(facts: BacktestFacts, *, made_at: datetime) -> str:
    """Return the page as HTML: no request leaves it, no script runs in it."""
    packages = ("kstock_batch.backtest", "kstock_batch.serving.report")
    page = Environment(
        loader=ChoiceLoader([PackageLoader(package, ".") for package in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    base_rate = facts.value(BLEND, "all", "base_rate")["value"]
    tenths = pl.DataFrame(facts.decile_rows("all"), infer_schema_length=None)
    drawings = {
        "By tenths": charts.tenths(tenths, base_rate, "Hit rate and forecast by tenths of the session"),
        "What one won became": charts.wealth(facts.portfolios, list(PORTFOLIOS), "Portfolios after costs"),
        "Ranking, over 60 sessions": charts.ranking(facts.sessions, "AUC within sessions over time"),
        "Rank correlation, added up": charts.correlation(facts.sessions, "Rank correlation with five-session returns"),
    }
    return page.get_template("backtest.html.j2").render(
        whole=facts.whole,
        sentence=facts.sentence,
        strip=[(NAMED[name], told(facts.value(BLEND, "all", name), 3)) for name in ("auc_day_vol", "ic", "lift")],
        tables=_tables(facts),
        drawings=drawings,
        settings=json.loads(facts.whole["settings"]),
        costs=json.loads(facts.whole["costs"]),
        made=f"{made_at:%Y-%m-%d %H:%M} UTC by kstock-batch {__version__}",
    )


def _tables(facts: BacktestFacts) -> list[tuple[str, str, Sequence[str], Cells]]:
    """Return title, a sentence, head and rows of each table."""
    scopes = facts.scopes()
    years = [scope for scope in scopes if not scope.startswith(("trend", "mood"))]
    regimes = ["all", *(scope for scope in scopes if scope not in years)]
    return [
        ("By year", "What would have been published; 90 % intervals from blocks of ten sessions.",
         ["", *years], _figures(facts, [(BLEND, scope) for scope in years], NAMED)),
        ("By regime", "Trend: the market's mean stock over 20 sessions. Mood: thirds by the deviation of its days.",
         ["", *regimes], _figures(facts, [(BLEND, scope) for scope in regimes], NAMED)),
        ("Members and blends", "The same sessions; + names the members blended by the bot's weights.",
         ["", *SHOWN], _variants(facts)),
        ("Portfolios", "Bought at the next open, sold at the close of the fifth session held, five tranches.",
         ["", *PORTFOLIOS], _figures(facts, [(name, "all") for name in PORTFOLIOS], TRADED)),
        ("By tenths of the session", "1 = the lowest probabilities.",
         list(facts.decile_rows("all")[0]), [[_number(v) for v in row.values()] for row in facts.decile_rows("all")]),
        ("Refits", "The gate decides nothing here: no champion is compared.",
         ["as-of", "scored", "windows", "folds trained", "weights", "gate"], _refits(facts)),
    ]  # fmt: skip


def _variants(facts: BacktestFacts) -> Cells:
    return [[name, *(_number(facts.value(name, "all", m)["value"]) for m in SHOWN)] for name in facts.variants()]


def _figures(facts: BacktestFacts, which: Sequence[tuple[str, str]], names: Mapping[str, str]) -> Cells:
    return [
        [named, *(_interval(facts.value(variant, scope, metric)) for variant, scope in which)]
        for metric, named in names.items()
    ]


def _refits(facts: BacktestFacts) -> Cells:
    return [
        [
            str(row["refit"]),
            f"{row['first_session']} … {row['last_session']}",
            _number(row["n_windows"]),
            _number(row["n_fitted"]),
            ", ".join(f"{name} {weight:.2f}" for name, weight in json.loads(row["weights"]).items()),
            "passed" if row["gate_passed"] else row["gate_reason"],
        ]
        for row in facts.refits.to_dicts()
    ]


def _interval(figure: Mapping[str, Any]) -> str:
    if figure["low"] is None:
        return _number(figure["value"])
    return f"{_number(figure['value'])} ({_number(figure['low'])} … {_number(figure['high'])})"


def _number(value: object) -> str:
    """Return a number with no more digits than it has to say."""
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if abs(value) >= 1000 or (value.is_integer() and value):
            return f"{value:,.0f}"
        return f"{value:.2f}" if abs(value) >= 2 else f"{value:.4f}"
    return str(value)
