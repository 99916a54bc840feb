"""Bars: sessions on which a ticker traded, in prices adjusted for splits."""

from datetime import date

import duckdb
import polars as pl

from kstock_batch.store.queries import Query


def read_bars(con: duckdb.DuckDBPyConnection, end: date) -> pl.DataFrame:
    """Return every bar up to ``end``, sorted by (ticker, session).

    Columns: ticker, session, cutoff_at, open, high, low, close (won, adjusted), volume (shares), foreign_net and
    institution_net (shares, null = unknown by that night's cutoff). All history, because the recursive averages run
    from the first bar the store holds.
    """
    return Query.load("features/bar").frame(con, end=end)
