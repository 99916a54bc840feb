"""A stored backtest as a person reads it: tables, one sentence, and JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import polars as pl

from kstock_batch.backtest.assembled import BLEND
from kstock_batch.backtest.results import PORTFOLIOS
from kstock_batch.backtest.stored import metric_rows, require_stored, session_rows
from kstock_batch.learners.linear import FLOORS
from kstock_batch.store.queries import Query

SHOWN = (
    *("auc_day", "auc_day_vol", "log_loss", "brier_skill_pct", "brier_skill_vol_pct", "ece_pct"),
    *("ic", "icir", "lift", "top_excess_bp"),
)
TRADED = (
    *("return_pct_a_year", "excess_pct_a_year", "excess_over_untraded_pct_a_year", "sharpe", "max_drawdown_pct"),
    *("turnover_pct_a_session", "costs_pct_a_year", "tax_pct_a_year", "capacity_won"),
)


@dataclass(frozen=True)
class BacktestFacts:
    """Everything a report of one backtest is made of."""

    whole: Mapping[str, Any]
    metrics: pl.DataFrame
    deciles: pl.DataFrame
    portfolios: pl.DataFrame
    refits: pl.DataFrame
    sessions: pl.DataFrame

    def value(self, variant: str, scope: str, metric: str) -> dict[str, Any]:
        """Return value, low and high of one figure; None where it is not known."""
        here = (pl.col("variant") == variant) & (pl.col("scope") == scope) & (pl.col("metric") == metric)
        rows = self.metrics.filter(here).to_dicts()
        return rows[0] if rows else {"value": None, "low": None, "high": None, "n_sessions": 0}

    def scopes(self) -> list[str]:
        """Return all, the years, the trends and the moods."""
        found = self.metrics.filter(pl.col("variant") == BLEND)["scope"].unique().to_list()
        order = ("trend up", "trend down", "mood calm", "mood usual", "mood stormy")
        years = sorted(name for name in found if name.isdigit())
        return ["all", *years, *(name for name in order if name in found)]

    def variants(self) -> list[str]:
        """Return the blend, the other variants, and the floors."""
        found = [name for name in self.metrics["variant"].unique().sort().to_list() if name not in PORTFOLIOS]
        return [BLEND, *sorted((name for name in found if name not in (BLEND, *FLOORS)), key=len), *FLOORS]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Return the tables that a terminal shows, by title."""
        named = f"{self.whole['backtest_id']}, {self.whole['first_session']} … {self.whole['last_session']}"
        refits = (
            "refit",
            "first_session",
            "last_session",
            "n_windows",
            "n_fitted",
            "gate_passed",
            "weights",
            "seconds",
        )
        return {
            f"blend of {named}": self._figures({scope: (BLEND, scope) for scope in self.scopes()}, SHOWN),
            "variants, all sessions": self._figures({name: (name, "all") for name in self.variants()}, SHOWN),
            "90 % intervals of the blend, all sessions": self._intervals(BLEND, "all", SHOWN),
            "tenths of the session, all sessions": self.decile_rows("all"),
            "portfolios, after costs": self._figures({name: (name, "all") for name in PORTFOLIOS}, TRADED),
            "90 % intervals of the top decile": self._intervals("top decile", "all", TRADED[:4]),
            "refits": self.refits.select(refits).to_dicts(),
        }

    def decile_rows(self, scope: str) -> list[dict[str, Any]]:
        """Return the blend's tenths in a scope."""
        here = (pl.col("variant") == BLEND) & (pl.col("scope") == scope)
        return self.deciles.filter(here).drop("variant", "scope").to_dicts()

    @property
    def sentence(self) -> str:
        """Return what it comes to, in words: intervals are 90 %."""
        auc, skill = (self.value(BLEND, "all", name) for name in ("auc_day_vol", "brier_skill_vol_pct"))
        excess = self.value("top decile", "all", "excess_pct_a_year")
        return (
            f"{self.whole['backtest_id']}: {self.whole['n_predictions']:,} predictions of {self.whole['n_refits']}"
            " refits;"
            f" AUC in session and volatility quintile {told(auc, 3)}, Brier skill over volatility {told(skill, 2)} %,"
            f" top decile after costs {told(excess, 1)} % a year beyond the universe"
        )

    def as_json(self) -> dict[str, Any]:
        """Return all of it but the daily courses as JSON values."""
        tables = {"metrics": self.metrics, "deciles": self.deciles, "refits": self.refits}
        return {**self.whole, **{name: rows.to_dicts() for name, rows in tables.items()}}

    def _figures(self, which: Mapping[str, tuple[str, str]], metrics: Sequence[str]) -> list[dict[str, Any]]:
        """Return one row for each (variant, scope) under its name, one column a metric."""
        return [
            {"": name, **{metric: self.value(variant, scope, metric)["value"] for metric in metrics}}
            for name, (variant, scope) in which.items()
        ]

    def _intervals(self, variant: str, scope: str, metrics: Sequence[str]) -> list[dict[str, Any]]:
        found = {metric: self.value(variant, scope, metric) for metric in metrics}
        return [{"": end, **{metric: row[end] for metric, row in found.items()}} for end in ("low", "value", "high")]


def facts_of(con: duckdb.DuckDBPyConnection, backtest_id: str | None) -> BacktestFacts:
    """Return the facts of a stored backtest; None = the newest."""
    whole = require_stored(con, backtest_id)
    name = str(whole["backtest_id"])
    frames = {
        table: Query.load(f"backtest/{table}").frame(con, backtest_id=name)
        for table in ("decile", "portfolio", "refit")
    }
    whole = {**whole, **Query.load("backtest/told").rows(con, backtest_id=name)[0]}
    return BacktestFacts(
        whole, metric_rows(con, name), frames["decile"], frames["portfolio"], frames["refit"], session_rows(con, name)
    )


def told(figure: Mapping[str, Any], decimals: int) -> str:
    """Return a figure with its interval in words."""
    if figure["value"] is None:
        return "unknown"
    value = f"{figure['value']:.{decimals}f}"
    return value if figure["low"] is None else f"{value} ({figure['low']:.{decimals}f} … {figure['high']:.{decimals}f})"
