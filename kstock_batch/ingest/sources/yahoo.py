"""Yahoo's charts as a source: a series a call, as JSON; what answers in its place may send a CSV with a header.

The day of a bar is the date of its opening on the clock of its exchange *at that time*: taken with the offset that
holds today, half the year's currency days would fall a day early.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl
import requests

from kstock_batch.errors import SourceChanged
from kstock_batch.ingest.sources.answers import body, branch, table, tree
from kstock_batch.ingest.sources.live import Need, Span
from kstock_batch.ingest.sources.macro import CLOSE_SCHEMA, SERIES, macro_rows
from kstock_batch.ingest.sources.text import UPDATE, Field, read_fields
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.settings import Settings

# Yahoo answers "too many requests" to whoever names no browser, from the first request on.
_HEADERS = {"User-Agent": "Mozilla/5.0", "Accept": "application/json, text/csv"}
_A_DAY = timedelta(days=1)
_NO_ROWS = "Data doesn't exist"  # how an answer begins for days without a session
_LAST_TICKS = timedelta(minutes=5)  # an index's last value may be stamped some seconds before the bell


class Yahoo:
    """VIX, S&P 500, Nasdaq, the ten-year yield and the won's rate; no key."""

    name = "yahoo"
    adds = "VIX, S&P 500, Nasdaq, US ten-year yield and USD/KRW, minutes after the close, without a key"
    offers: Mapping[str, Span] = {"macro": "range"}

    def __init__(self, settings: Settings, session: PoliteSession, environ: Mapping[str, str]) -> None:
        self._url = settings.yahoo_url
        self._session = session

    @property
    def n_calls(self) -> int:
        """Requests sent so far, retries included."""
        return self._session.n_calls

    def needs(self) -> list[Need]:
        """Return nothing: it is open to all."""
        return []

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the closes of all series from ``start`` through ``end``, without that of a session still on."""
        told = [self._series(series.yahoo, start, end).with_columns(series=pl.lit(series.name)) for series in SERIES]
        return macro_rows(pl.concat(frame.select(*CLOSE_SCHEMA) for frame in told), self.name)

    def _series(self, symbol: str, start: date, end: date) -> pl.DataFrame:
        """Return the days and closes of one series."""
        # A bar is asked for by the instant of its opening; the days at the ends are cut to size below.
        period = {"period1": _seconds(start - _A_DAY), "period2": _seconds(end + 2 * _A_DAY)}
        asked: dict[str, str | int] = {**period, "interval": "1d", "includeAdjustedClose": "true"}
        response = self._session.get(f"{self._url}/{quote(symbol)}", params=asked, headers=_HEADERS)
        of = f"yahoo {symbol}"
        is_table = response.ok and not response.content.lstrip().startswith(b"{")
        bars = _from_table(body(response, of=of), of) if is_table else _from_chart(response, of)
        return bars.filter(pl.col("event_date").is_between(start, end)).unique("event_date", keep="last")


def _seconds(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def _from_table(content: bytes, of: str) -> pl.DataFrame:
    """Return the bars of a CSV with Date and Close among its columns."""
    if content.strip().lower() == b"no data":
        return pl.DataFrame(schema={"event_date": pl.Date, "close": pl.Float64})
    fields = {"event_date": Field("Date", "date"), "close": Field("Close", "number")}
    return read_fields(table(content, of=of), fields, of=of)


def _from_chart(response: requests.Response, of: str) -> pl.DataFrame:
    """Return the bars of a chart, oldest first."""
    chart = branch(of, tree(response, of=of), "chart")
    if error := branch(of, chart, "error"):
        if str(error.get("description", "")).startswith(_NO_ROWS):
            return pl.DataFrame(schema={"event_date": pl.Date, "close": pl.Float64})
        raise SourceChanged(f"{of} answers {response.status_code}: {error}", fix=UPDATE)
    result = branch(of, chart, "result", 0)
    closes = branch(of, result, "indicators", "quote", 0)
    if "timestamp" not in result and not closes.get("close"):
        return pl.DataFrame(schema={"event_date": pl.Date, "close": pl.Float64})
    opened, values = branch(of, result, "timestamp"), branch(of, closes, "close")
    if len(opened) != len(values):
        raise SourceChanged(f"{of} answers {len(opened)} bars with {len(values)} closes", fix=UPDATE)
    zone = _zone(branch(of, result, "meta", "exchangeTimezoneName"), of)
    days = [datetime.fromtimestamp(seconds, zone).date() for seconds in opened]
    bars = pl.DataFrame({"event_date": days, "close": values}, schema={"event_date": pl.Date, "close": pl.Float64})
    return bars.filter(pl.col("event_date").ne_missing(_open_day(result["meta"], zone, of)))


def _zone(name: str, of: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError) as error:
        raise SourceChanged(f"{of} answers the unknown time zone {name!r}", fix=UPDATE) from error


def _open_day(meta: Mapping[str, Any], zone: ZoneInfo, of: str) -> date | None:
    """Return the day whose session was still on when the answer was made: its bar has no close yet."""
    last, session = branch(of, meta, "regularMarketTime"), branch(of, meta, "currentTradingPeriod", "regular")
    is_on = branch(of, session, "start") <= last < branch(of, session, "end") - _LAST_TICKS.total_seconds()
    return datetime.fromtimestamp(last, zone).date() if is_on else None
