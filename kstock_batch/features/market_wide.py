"""Market-wide features: the same for every ticker of a session."""

import duckdb
import polars as pl

from kstock_batch.features.knowledge import Block, Knowledge
from kstock_batch.store.queries import Query

MAX_AGE_DAYS = 10  # the longest Korean and US holidays together stay below it


def read_market_wide(con: duckdb.DuckDBPyConnection, block: Block, knowledge: Knowledge) -> pl.DataFrame:
    """Return as_of, vix, spx_change_pct, usdkrw (won), regime_encoded (0 off, 1 neutral, 2 on) per session."""
    return Query.load("features/market_wide").frame(
        con, start=block.start, end=block.end, max_age_days=MAX_AGE_DAYS, **knowledge.params
    )
