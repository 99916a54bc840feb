"""Financial statements of the sample companies: quarters, what was filed, and since when it may be known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from kstock_batch.ingest.sources.sample_market.roster import Roster
from kstock_batch.ingest.sources.sample_market.ticks import Floats

_QUARTER_ENDS = ((3, 31), (6, 30), (9, 30), (12, 31))
_MARKET_NAMES = {"KOSPI": "유가증권시장상장법인", "KOSDAQ": "코스닥시장상장법인"}


@dataclass(frozen=True)
class Statements:
    """Filed quarters, oldest first; values (Q, N) in won, NaN for names that file nothing."""

    period_ends: list[date]
    available_from: list[date]
    revenue: Floats
    op_income: Floats
    net_income: Floats
    equity: Floats
    liabilities: Floats

    def known(self, values: Floats, sessions: Sequence[date]) -> Floats:
        """Return (T, N): per session the newest row of ``values`` (Q, N) that was available on it."""
        newest = np.searchsorted(np.array(self.available_from, "datetime64[D]"),
                                 np.array(sessions, "datetime64[D]"), side="right") - 1  # fmt: skip
        return np.asarray(values[newest])

    def trailing_net_income(self) -> Floats:
        """Return (Q, N): net income of the four quarters up to each; NaN before four exist."""
        total = np.cumsum(self.net_income, axis=0)
        trailing = np.full_like(total, np.nan)
        trailing[3:] = total[3:]
        trailing[4:] -= total[:-4]
        return trailing


def draw_statements(roster: Roster, sessions: Sequence[date], seed: int) -> Statements:
    """Return every filing available by the last session, from January two years before the first."""
    rng = np.random.default_rng([seed, 3])
    ends = [date(year, *end) for year in range(sessions[0].year - 2, sessions[-1].year + 1) for end in _QUARTER_ENDS]
    filed = [(end, _available(end)) for end in ends if _available(end) <= sessions[-1]]
    n_quarters, n = len(filed), roster.table.height
    files = np.where(roster.bools("has_filings"), 1.0, np.nan)
    capital = files * roster.floats("offer") * roster.floats("shares")
    profitability = np.where(rng.random(n) < 0.28, rng.normal(-0.06, 0.04, n), rng.normal(0.07, 0.04, n))
    earned = (profitability / 4 + 0.008 * rng.standard_normal((n_quarters, n))) * capital  # (Q, N)
    equity = np.maximum(capital * np.exp(rng.normal(-0.1, 0.6, n)) + np.cumsum(earned, axis=0), 0.05 * capital)
    liabilities = equity * np.exp(rng.normal(-0.4, 0.8, n) + 0.05 * rng.standard_normal((n_quarters, n)))
    season = 1 + 0.1 * np.sin(np.arange(n_quarters) * np.pi / 2)[:, None]
    revenue = capital * np.exp(rng.normal(-1.6, 0.7, n)) * season * np.exp(0.05 * rng.standard_normal((n_quarters, n)))
    op_income = 1.25 * earned + 0.002 * capital * rng.standard_normal((n_quarters, n))
    won = [np.round(values) for values in (revenue, op_income, earned, equity, liabilities)]
    return Statements([end for end, _ in filed], [day for _, day in filed], *won)


def statements_frame(statements: Statements, roster: Roster, sessions: Sequence[date]) -> pl.DataFrame:
    """Return the rows of ``financials.parquet``: year-to-date flows, restarted each January."""
    n_quarters, n = statements.net_income.shape
    period = np.repeat(np.arange(n_quarters), n)
    who = pl.Series(np.tile(np.arange(n), n_quarters))
    facts = roster.table.select(
        "ticker", pl.col("market").replace(_MARKET_NAMES), industry=pl.col("factor_sector") + " 제조 및 서비스업"
    )
    gone_on = np.array(sessions, "datetime64[D]")[roster.ints("last")]
    return (
        facts[who]
        .with_columns(
            pl.Series("period_end", statements.period_ends)[period],
            pl.Series("available_from", statements.available_from)[period],
            pl.Series("revenue_ytd", _year_to_date(statements.revenue).ravel()),
            pl.Series("op_income_ytd", _year_to_date(statements.op_income).ravel()),
            pl.Series("net_income_ytd", _year_to_date(statements.net_income).ravel()),
            pl.Series("equity", statements.equity.ravel()),
            pl.Series("liabilities", statements.liabilities.ravel()),
            pl.Series("gone_on", gone_on)[who],
        )
        .filter(pl.col("equity").is_not_nan(), pl.col("available_from") <= pl.col("gone_on"))
        .with_columns(
            assets=pl.col("equity") + pl.col("liabilities"),
            debt_ratio=pl.col("liabilities") / pl.col("equity") * 100,
        )
        .select("ticker", "period_end", "available_from", "revenue_ytd", "op_income_ytd", "net_income_ytd", "equity",
                "liabilities", "assets", "debt_ratio", "market", "industry")
        .sort("ticker", "period_end")
    )  # fmt: skip


def _available(period_end: date) -> date:
    """Return the day after the legal deadline: 90 days for a year, 45 for a quarter."""
    return period_end + timedelta(91 if period_end.month == 12 else 46)


def _year_to_date(quarterly: Floats) -> Floats:
    """Return (Q, N) sums since January; row 0 is a first quarter by construction."""
    summed = quarterly.copy()
    for q in range(1, len(summed)):
        if q % 4:
            summed[q] += summed[q - 1]
    return summed
