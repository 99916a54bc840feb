"""Departures: a stock that a whole list of the exchange no longer has, and that no longer traded, has left it."""

from datetime import date

import duckdb
import polars as pl

from kstock_batch.ingest.versions import standing
from kstock_batch.market.tables import TABLES, Table

# In 2020 … 2024 at most 9 of 2,700 names left on one day. More at once is a list with a hole in it.
MOST_AT_ONCE = 0.01
FEW = 5


def departed(con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, day: date) -> pl.DataFrame:
    """Return a listing row, with ``last_seen``, for each stock that left before ``day``; ``rows`` is its whole list.

    Only once the prices of ``day`` are stored: what traded has not left, whatever a list says. A list that is older
    than what the store knows of a stock tells nothing of it.
    """
    table = TABLES["raw_listing"]
    if not con.execute("SELECT count(*) FROM raw_price WHERE session = $day", {"day": day}).fetchall()[0][0]:
        return rows.clear()
    known_at, source = rows["available_at"].max(), rows["source"][0]
    con.register("listed", rows.filter(pl.col("last_seen").is_null()).select("ticker", "market"))
    gone: pl.DataFrame = con.sql(
        f"SELECT {_columns(table)}, l.available_at FROM ({standing(table)}) AS l"
        " WHERE l.last_seen IS NULL AND l.available_at < $known_at AND l.ticker NOT IN (SELECT ticker FROM listed)"
        " AND l.market IN (SELECT market FROM listed)"
        " AND l.ticker NOT IN (SELECT ticker FROM raw_price WHERE session >= $day)",
        params={"known_at": known_at, "day": day},
    ).pl()
    con.unregister("listed")
    if gone.height > max(FEW, MOST_AT_ONCE * rows.height):
        return rows.clear()
    last = con.sql(
        "SELECT ticker, max(session) AS last_traded FROM raw_price WHERE session < $day GROUP BY ticker",
        params={"day": day},
    ).pl()
    told = gone.join(last, on="ticker", how="inner", validate="1:1")  # one without a price never was here
    return told.with_columns(
        last_seen=pl.col("last_traded"), source=pl.lit(source), available_at=pl.lit(known_at, pl.Datetime("us"))
    ).select(rows.columns)


def _columns(table: Table) -> str:
    return ", ".join(f"l.{name}" for name in table.columns)
