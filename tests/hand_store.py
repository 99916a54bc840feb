"""A store whose few rows are written in the test that asks about them."""

from contextlib import contextmanager
from datetime import date, datetime, timedelta

import polars as pl

from kstock_batch.market.sessions import cutoff_at
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse, insert_rows

KNOWN = datetime(1999, 1, 1)


def weekdays(start: date, n: int) -> list[date]:
    """Return ``n`` weekdays from ``start``: a calendar without holidays."""
    days = (start + timedelta(days=i) for i in range(3 * n))
    return [day for day in days if day.weekday() < 5][:n]


@contextmanager
def hand_store(root, sessions):
    with Warehouse.open(Settings.load(root, environ={})) as warehouse:
        calendar = pl.DataFrame({"session": sessions, "cutoff_at": [cutoff_at(day) for day in sessions]})
        put(warehouse, "raw_calendar", calendar, available_at=KNOWN)
        yield warehouse


def put(warehouse, table, rows, *, available_at=None):
    """Append rows; what a test does not care about gets a harmless value."""
    frame = pl.DataFrame(rows, infer_schema_length=None) if isinstance(rows, list) else rows
    if "available_at" not in frame.columns:
        frame = frame.with_columns(available_at=pl.lit(available_at))
    extra = {} if table == "raw_calendar" or "source" in frame.columns else {"source": pl.lit("by_hand")}
    insert_rows(warehouse.con, table, frame.with_columns(ingested_at=pl.lit(KNOWN), **extra), order="1")


def prices(ticker, sessions, closes, *, volume=1000):
    """Return adjusted price rows; a close of None leaves the session out, a negative one means a halt at its value."""
    rows = []
    for session, close in zip(sessions, closes, strict=True):
        if close is None:
            continue
        level = float(abs(close))
        rows.append(
            {
                "ticker": ticker,
                "session": session,
                "price_basis": "adjusted",
                "open": level,
                "high": level,
                "low": level,
                "close": level,
                "volume": 0 if close < 0 else volume,
                "available_at": cutoff_at(session) - timedelta(hours=2, minutes=45),
            }
        )
    return rows


def listing(ticker, *, market="KOSPI", sector="반도체", is_spac=False, is_preferred=False):
    return {
        "ticker": ticker,
        "name": f"이름{ticker}",
        "market": market,
        "sector": sector,
        "is_spac": is_spac,
        "is_preferred": is_preferred,
    }
