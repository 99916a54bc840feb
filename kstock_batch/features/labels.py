"""Labels: what came true after each bar. The ONLY module that looks forward."""

from datetime import date
from typing import Any

import duckdb
import polars as pl

from kstock_batch.market.contract import HORIZON, LABEL_RISE
from kstock_batch.store.queries import Query


def read_labels(con: duckdb.DuckDBPyConnection, start: date, end: date, basis: str) -> pl.DataFrame:
    """Return label_daily's rows for the bars in [start, end] whose outcome the stored prices already show.

    What came true is told by the newest version of each price, whatever the nights in between knew.
    """
    return Query.load("labels/label_5d").frame(con, **_params(start, end, basis))


def replace_labels(con: duckdb.DuckDBPyConnection, start: date, end: date, basis: str) -> int:
    """Make label_daily hold those rows for [start, end], within a transaction of the caller's; return how many."""
    con.execute("DELETE FROM label_daily WHERE as_of BETWEEN $start AND $end", {"start": start, "end": end})
    statement = f"INSERT INTO label_daily BY NAME {Query.load('labels/label_5d').text}"
    return int(con.execute(statement, _params(start, end, basis)).fetchall()[0][0])


def _params(start: date, end: date, basis: str) -> dict[str, Any]:
    return {"start": start, "end": end, "basis": basis, "horizon": HORIZON, "rise": LABEL_RISE}
