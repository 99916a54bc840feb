"""Fundamental features: valuation and balance sheet as known on each night."""

from datetime import date

import duckdb
import polars as pl

from kstock_batch.store.queries import Query

# Beyond these a figure says more about its source than about the company, and is null.
FILING_MAX_AGE_DAYS = 400  # a yearly filer that is a month late
CAP_MAX_AGE_DAYS = 400  # shares change rarely; the price moves the figure daily
PER_MAX_AGE_DAYS = 45  # printed monthly at least


def read_fundamentals(con: duckdb.DuckDBPyConnection, start: date, end: date) -> pl.DataFrame:
    """Return ticker, as_of, per, roe (%), debt_ratio (%), market_cap_log (log10 won) per bar in [start, end]."""
    return Query.load("features/fundamental").frame(
        con,
        start=start,
        end=end,
        filing_max_age_days=FILING_MAX_AGE_DAYS,
        cap_max_age_days=CAP_MAX_AGE_DAYS,
        per_max_age_days=PER_MAX_AGE_DAYS,
    )
