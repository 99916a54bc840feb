"""The store's sessions: its calendar, and which of it has prices."""

from datetime import date, datetime

import duckdb
import polars as pl

from kstock_batch.errors import DataNotReady
from kstock_batch.market.sessions import Sessions, cutoff_at
from kstock_batch.store.queries import Query


def read_sessions(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Return session, session_number, cutoff_at (UTC) of the calendar, past and known future, oldest first."""
    return Query.load("features/session").frame(con)


def session_days(con: duckdb.DuckDBPyConnection) -> list[date]:
    """Return every session of the calendar, oldest first."""
    return read_sessions(con)["session"].to_list()


def cutoff_of(con: duckdb.DuckDBPyConnection, day: date) -> datetime:
    """Return the UTC instant after which nothing is known to the night of ``day``; a day off has the usual one."""
    found = read_sessions(con).filter(pl.col("session") == day)["cutoff_at"]
    return found.item() if len(found) else cutoff_at(day)


def price_range(con: duckdb.DuckDBPyConnection, basis: str) -> tuple[date, date]:
    """Return the first and the newest session with prices of the basis that features are computed from."""
    first, newest = Query.load("features/price_range").frame(con, basis=basis).row(0)
    if first is None:
        raise DataNotReady(
            f"the store holds no {basis} prices",
            fix="run `kstock-batch demo` or `kstock-batch ingest files DIR`"
            + ("" if basis == "adjusted" else ', or set price_basis = "adjusted" in kstock.toml'),
        )
    return first, newest


def session_asked(con: duckdb.DuckDBPyConnection, as_of: date | None, basis: str) -> date:
    """Return ``as_of`` if it is a session with prices; by default the newest one."""
    first, newest = price_range(con, basis)
    if as_of is None:
        return newest
    if not first <= as_of <= newest:
        raise DataNotReady(
            f"{as_of} is outside the stored prices, {first} … {newest}", fix="ingest that session, or name another"
        )
    if as_of not in (sessions := Sessions(session_days(con))):
        raise DataNotReady(
            f"{as_of} was no session of the exchange", fix=f"use {sessions.at_or_before(as_of)}, the one before it"
        )
    return as_of
