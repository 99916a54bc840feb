"""Replay: features of past sessions from nothing but raw rows, as they could be known at some instant."""

from datetime import date

import duckdb
import polars as pl

from kstock_batch.features.block import Recipe, compute_block
from kstock_batch.features.knowledge import BEFORE_ALL, EVERYTHING, Block, Knowledge
from kstock_batch.market.sessions import cutoff_at

PLAIN = Recipe()


def compute_features(
    con: duckdb.DuckDBPyConnection,
    start: date,
    end: date,
    recipe: Recipe = PLAIN,
    knowledge: Knowledge = EVERYTHING,
) -> pl.DataFrame:
    """Return feature_daily's rows for as_of in [start, end], from the first bar on; no stored state is read."""
    block = Block(BEFORE_ALL, start, end, cutoff_at(start), cutoff_at(end))
    return compute_block(con, block, recipe, knowledge=knowledge).rows.sort("as_of", "ticker")
