"""Labels: what came true after each bar. The ONLY module that looks forward."""

from datetime import date

import duckdb
import polars as pl

from kstock_batch.market.contract import HORIZON, LABEL_RISE
from kstock_batch.store.queries import Query


def read_labels(con: duckdb.DuckDBPyConnection, start: date, end: date, basis: str) -> pl.DataFrame:
    """Return label_daily's rows for the bars in [start, end] whose outcome the stored prices already show.

    What came true is told by the newest version of each price, whatever the nights in between knew.
    """
    return Query.load("labels/label_5d").frame(con, start=start, end=end, basis=basis, horizon=HORIZON, rise=LABEL_RISE)
