"""Fundamental features: valuation and balance sheet of each row, from what had been filed and printed by its night."""

import duckdb
import polars as pl

from kstock_batch.features.knowledge import Block, Knowledge
from kstock_batch.store.queries import Query

# Beyond these a figure says more about its source than about the company, and is null.
FILING_MAX_AGE_DAYS = 400  # a yearly filer that is a month late
CAP_MAX_AGE_DAYS = 365  # shares change rarely; a year is as far as the prices go that move the figure
PER_MAX_AGE_DAYS = 45  # printed monthly at least


def with_fundamentals(
    con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, closes: pl.DataFrame, block: Block, knowledge: Knowledge
) -> pl.DataFrame:
    """Return ``rows`` with per, roe (%), debt_ratio (%) and market_cap_log (log10 won).

    ``rows``: series, ticker, as_of, cutoff_at, price (close in the series' level). ``closes``: series, session, price
    of all rows of those series, sorted by both.
    """
    nights = {"start_at": block.starts_at, "end_at": block.ends_at, **knowledge.params}
    caps = Query.load("features/market_cap").frame(con, max_age_days=CAP_MAX_AGE_DAYS, **nights)
    printed = Query.load("features/valuation").frame(con, max_age_days=PER_MAX_AGE_DAYS, **nights)
    filings = Query.load("features/filing_known").frame(con, max_age_days=FILING_MAX_AGE_DAYS, **nights)
    rows = _moved_with_price(rows, caps, closes, "market_cap", CAP_MAX_AGE_DAYS)
    rows = _moved_with_price(rows, printed, closes, "per", PER_MAX_AGE_DAYS)
    rows = _known_by_cutoff(rows, filings.rename({"known_at": "available_at"}))
    net_income, equity, debt_ratio = (_unless_old(name) for name in ("net_income", "equity", "debt_ratio"))
    computed = pl.when(net_income > 0).then(pl.col("market_cap") / net_income)
    return rows.with_columns(
        per=pl.when(pl.col("per") > 0).then("per").otherwise(computed),
        roe=pl.when(equity != 0).then(100 * net_income / equity),
        debt_ratio=debt_ratio,
        market_cap_log=pl.col("market_cap").log10(),
    )


def _known_by_cutoff(rows: pl.DataFrame, facts: pl.DataFrame) -> pl.DataFrame:
    """Return ``rows`` with the newest of its ticker's ``facts`` that was known at its cutoff."""
    return rows.join_asof(
        facts,
        left_on="cutoff_at",
        right_on="available_at",
        by="ticker",
        strategy="backward",
        check_sortedness=False,  # both are sorted by ticker and time
    )


def _moved_with_price(
    rows: pl.DataFrame, printed: pl.DataFrame, closes: pl.DataFrame, name: str, max_age_days: int
) -> pl.DataFrame:
    """Return ``rows`` with the last printed won amount, moved by the price since it was printed; null if too old.

    The price of the printing session is its close, or the last one before. Only a ratio of two prices of one level is
    used, so a later split changes nothing.
    """
    then = closes.rename({"price": "price_then", "session": "session_then"})
    found = _known_by_cutoff(rows, printed.rename({"session": "printed_on"})).join_asof(
        then, left_on="printed_on", right_on="session_then", by="series", strategy="backward", check_sortedness=False
    )
    is_recent = (pl.col("available_at") >= pl.col("cutoff_at") - pl.duration(days=max_age_days)) & (
        pl.col("printed_on") >= pl.col("as_of") - pl.duration(days=max_age_days)
    )
    moved = pl.when(is_recent).then(pl.col(name) / pl.col("price_then") * pl.col("price"))
    return found.with_columns(moved.alias(name)).drop("printed_on", "price_then", "session_then", "available_at")


def _unless_old(name: str) -> pl.Expr:
    is_recent = pl.col(f"{name}_at") >= pl.col("cutoff_at") - pl.duration(days=FILING_MAX_AGE_DAYS)
    return pl.when(is_recent).then(name)
