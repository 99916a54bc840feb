"""What FRED and Yahoo answer of the fake market's series: a CSV with blanks, a chart with a bar still open."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import unquote
from zoneinfo import ZoneInfo

import polars as pl

from fake_exchange.market import Market
from fake_exchange.server import FakeExchange, Reply, Request

US_HOLIDAYS = (date(2026, 5, 25), date(2026, 6, 19), date(2026, 7, 3))
FRED_IDS = {"VIX": "VIXCLS", "SP500": "SP500", "NASDAQ": "NASDAQCOM", "US10Y": "DGS10", "USDKRW": "DEXKOUS"}
YAHOO_SYMBOLS = {"VIX": "^VIX", "SP500": "^GSPC", "NASDAQ": "^IXIC", "US10Y": "^TNX", "USDKRW": "KRW=X"}
ZONES = {"VIX": "America/Chicago", "USDKRW": "Europe/London"}  # the others: New York
_BELLS = {"VIX": (time(8, 30), time(15, 15)), "USDKRW": (time(0), time(23, 59))}

Closes = Mapping[str, Mapping[date, float]]


def closes_of(market: Market) -> dict[str, dict[date, float]]:
    """Return series to day to close: the market's own, and two that move with them."""
    told = {
        name: dict(market.macro.filter(series=name).select("event_date", "close").iter_rows()) for name in YAHOO_SYMBOLS
    }
    told["NASDAQ"] = {day: round(close * 3.1, 2) for day, close in told["SP500"].items()}
    told["US10Y"] = {day: round(close / 4, 2) for day, close in told["VIX"].items()}
    open_days = {
        name: {day: close for day, close in days.items() if day not in US_HOLIDAYS} for name, days in told.items()
    }
    return open_days | {"USDKRW": told["USDKRW"]}


def serve_fred(exchange: FakeExchange, closes: Closes, path: str = "/graph/fredgraph.csv") -> None:
    """Answer a line a weekday; a holiday of New York is a blank."""

    def answer(asked: Request) -> Reply:
        ids = asked.query["id"].split(",")
        first, last = (date.fromisoformat(asked.query[name].split(",")[0]) for name in ("cosd", "coed"))
        days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        by_id = {FRED_IDS[name]: values for name, values in closes.items()}
        known = {day for values in closes.values() for day in values}
        lines = [f"{day},{','.join(str(by_id[i].get(day, '')) for i in ids)}" for day in days if day in known]
        return csv(["observation_date," + ",".join(ids), *lines])

    exchange.serve(path, answer)


def serve_yahoo(exchange: FakeExchange, closes: Closes, *, now: datetime, path: str = "/v8/finance/chart") -> None:
    """Answer charts as they stand at ``now`` (UTC, aware): a session that is still on has its bar already."""
    names = {symbol: name for name, symbol in YAHOO_SYMBOLS.items()}

    def answer(asked: Request) -> Reply:
        name = names[unquote(asked.path.rsplit("/", 1)[1])]
        zone = ZoneInfo(ZONES.get(name, "America/New_York"))
        opens, ends = _BELLS.get(name, (time(9, 30), time(16)))
        at = {day: datetime.combine(day, opens, zone) for day in closes[name]}
        first, last = (int(asked.query[key]) for key in ("period1", "period2"))
        days = [day for day in sorted(at) if first <= at[day].timestamp() < last and at[day] <= now]
        return chart(
            [(int(at[day].timestamp()), closes[name][day]) for day in days],
            symbol=YAHOO_SYMBOLS[name], zone=zone, hours=(opens, ends), last_tick=_last_tick(at.values(), ends, now),
        )  # fmt: skip

    exchange.serve(f"{path}/*", answer)


def chart(
    bars: list[tuple[int, float | None]], *, symbol: str, zone: ZoneInfo, hours: tuple[time, time], last_tick: datetime
) -> Reply:
    """Return a chart with these bars; ``last_tick`` is when the newest of them moved last."""
    local = last_tick.astimezone(zone)
    period = {"timezone": local.tzname(), "gmtoffset": int(local.utcoffset().total_seconds())}
    start, end = (int(datetime.combine(local.date(), at, zone).timestamp()) for at in hours)
    meta = {
        "currency": "USD",
        "symbol": symbol,
        "regularMarketTime": int(last_tick.timestamp()),
        "gmtoffset": period["gmtoffset"],
        "exchangeTimezoneName": zone.key,
        "currentTradingPeriod": {"regular": period | {"start": start, "end": end}},
        "dataGranularity": "1d",
    }
    values = [value for _, value in bars]
    quote = {"open": values, "high": values, "low": values, "close": values, "volume": [0 for _ in values]}
    result: dict[str, object] = {"meta": meta, "indicators": {"quote": [quote], "adjclose": [{"adjclose": values}]}}
    if bars:
        result["timestamp"] = [at for at, _ in bars]
    else:
        result["indicators"] = {"quote": [{}], "adjclose": [{}]}
    return Reply.json({"chart": {"result": [result], "error": None}})


def chart_error(code: str, description: str, status: int) -> Reply:
    return Reply.json({"chart": {"result": None, "error": {"code": code, "description": description}}}, status=status)


def csv(lines: list[str]) -> Reply:
    return Reply(("\n".join(lines) + "\n").encode(), content_type="application/csv")


def _last_tick(opened: object, ends: time, now: datetime) -> datetime:
    """Return when a price was last seen: now, or some seconds before the last bell."""
    day = max(at for at in opened if at <= now)
    return min(now, datetime.combine(day.date(), ends, day.tzinfo) - timedelta(seconds=2)).astimezone(UTC)


def frame(closes: Closes) -> pl.DataFrame:
    """Return the closes as series, event_date, close."""
    rows = [(name, day, close) for name, days in closes.items() for day, close in days.items()]
    schema = {"series": pl.String, "event_date": pl.Date, "close": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("series", "event_date")
