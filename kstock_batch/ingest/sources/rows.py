"""Rows of a live source made ready: the columns and types of their table, who tells them, and since when they count."""

from datetime import date, time, timedelta
from functools import cache

import polars as pl

from kstock_batch.ingest.sources.files import DTYPES
from kstock_batch.market.sessions import KST_OFFSET, krx_sessions
from kstock_batch.market.tables import Table

_LONGEST_CLOSURE = timedelta(days=15)  # lunar new year and the weekends around it, with room to spare


def finished(rows: pl.DataFrame, table: Table, source: str, available_at: pl.Expr) -> pl.DataFrame:
    """Return ``rows`` with exactly the columns of ``table`` in the store's types, then source and available_at.

    A column that the source does not tell is null. Sorted by the key.
    """
    told = {name: pl.col(name) if name in rows.columns else pl.lit(None) for name in table.columns}
    typed = rows.select(
        *(value.cast(DTYPES[table.columns[name]]).alias(name) for name, value in told.items()),
        pl.lit(source).alias("source"),
        available_at.cast(pl.Datetime("us")).alias("available_at"),
    )
    return typed.with_columns(**table.derived).sort(name for name in table.key if name != "source")


def seoul_instant(day: str, at: time, *, plus_days: int = 0) -> pl.Expr:
    """Return the UTC instant, naive, of a wall-clock time in Seoul ``plus_days`` after the date in column ``day``."""
    after_midnight = timedelta(days=plus_days, hours=at.hour, minutes=at.minute)
    return pl.col(day).cast(pl.Datetime("us")) + after_midnight - KST_OFFSET


def sessions_later(day: str, n: int, *, start: date, end: date) -> pl.Expr:
    """Return the date ``n`` sessions after the one in column ``day``; null where that is no session of [start, end]."""
    sessions = _sessions_of(start.year, (end + (n + 1) * _LONGEST_CLOSURE).year)
    later = dict(zip(sessions, sessions[n:], strict=False))  # the last n have none yet
    return pl.col(day).replace_strict(later, default=None, return_dtype=pl.Date)


@cache
def _sessions_of(first_year: int, last_year: int) -> list[date]:
    """Return the sessions of whole years: the calendar takes two seconds to make, and a backfill asks every day."""
    return krx_sessions(date(first_year, 1, 1), date(last_year, 12, 31))
