"""FRED and Yahoo as sources of US closes and the won's rate: days of the exchange, no close of a session still on."""

import io
import zipfile
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from fake_exchange.market import small_market
from fake_exchange.series import (
    US_HOLIDAYS,
    YAHOO_SYMBOLS,
    chart,
    chart_error,
    closes_of,
    csv,
    frame,
    serve_fred,
    serve_yahoo,
)
from fake_exchange.server import BLOCK_PAGE, CUT_SHORT, FakeExchange, Reply, changed_column, replaced
from kstock_batch.errors import SourceBlocked, SourceChanged, SourceUnreachable
from kstock_batch.ingest.sources.fred import Fred
from kstock_batch.ingest.sources.yahoo import Yahoo
from kstock_batch.ingest.web.limits import Limits
from kstock_batch.ingest.web.polite import PoliteSession
from kstock_batch.ingest.web.state import SourceState
from kstock_batch.settings import Settings

MONDAY, FRIDAY = date(2026, 5, 18), date(2026, 5, 29)
A_YEAR_LATER = datetime(2027, 5, 1, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
FRED_PATH, YAHOO_PATH = "/graph/fredgraph.csv", "/v8/finance/chart"


@pytest.fixture(scope="module")
def closes():
    return closes_of(small_market())


@pytest.fixture
def exchange(closes):
    with FakeExchange() as running:
        serve_fred(running, closes)
        serve_yahoo(running, closes, now=A_YEAR_LATER)
        yield running


def session(name, root):
    return PoliteSession(name, SourceState(root / "sources"), Limits(attempts=1, min_interval_s=0, timeout_s=5))


@pytest.fixture
def fred(exchange, tmp_path):
    return Fred(Settings(root=tmp_path, fred_url=exchange.url + FRED_PATH), session("fred", tmp_path), {})


@pytest.fixture
def yahoo(exchange, tmp_path):
    return Yahoo(Settings(root=tmp_path, yahoo_url=exchange.url + YAHOO_PATH), session("yahoo", tmp_path), {})


def expected(closes, source):
    """Return the rows of raw_macro that the closes are."""
    of_rate = pl.col("series") == "USDKRW"
    midnight = pl.col("event_date").cast(pl.Datetime("us"))
    known_at = pl.when(of_rate).then(midnight.dt.offset_by("1d15h")).otherwise(midnight.dt.offset_by("22h"))
    rows = frame(closes).filter(pl.col("event_date").is_between(MONDAY, FRIDAY))
    return rows.with_columns(pl.lit(source).alias("source"), known_at.alias("available_at"))


def test_fred_tells_every_series_to_the_last_digit_in_one_call(fred, exchange, closes):
    assert_frame_equal(fred.fetch("macro", MONDAY, FRIDAY), expected(closes, "fred"))
    assert fred.n_calls == exchange.n_calls() == 1


def test_yahoo_tells_every_series_to_the_last_digit_in_a_call_each(yahoo, exchange, closes):
    assert_frame_equal(yahoo.fetch("macro", MONDAY, FRIDAY), expected(closes, "yahoo"))
    assert yahoo.n_calls == exchange.n_calls() == 5


def test_a_us_close_counts_from_seven_the_next_morning_and_the_rate_from_the_midnight_after(fred):
    rows = fred.fetch("macro", MONDAY, MONDAY)
    assert dict(rows.select("series", "available_at").iter_rows()) == {
        **dict.fromkeys(("VIX", "SP500", "NASDAQ", "US10Y"), datetime(2026, 5, 18, 22)),
        "USDKRW": datetime(2026, 5, 19, 15),
    }


@pytest.mark.parametrize("name", ["fred", "yahoo"])
def test_a_holiday_of_new_york_has_no_close_but_a_rate(name, request):
    memorial_day = US_HOLIDAYS[0]
    rows = request.getfixturevalue(name).fetch("macro", memorial_day, memorial_day)
    assert rows["series"].to_list() == ["USDKRW"]


@pytest.mark.parametrize("name", ["fred", "yahoo"])
def test_days_without_any_close_have_no_rows(name, request):
    rows = request.getfixturevalue(name).fetch("macro", date(2026, 5, 23), date(2026, 5, 24))
    assert rows.is_empty()
    assert rows.columns == ["series", "event_date", "close", "source", "available_at"]


@pytest.mark.parametrize("name", ["fred", "yahoo"])
def test_no_key_is_needed(name, request):
    assert request.getfixturevalue(name).needs() == []


IDS = "VIXCLS,SP500,NASDAQCOM,DGS10,DEXKOUS"


def test_days_that_fred_adds_of_its_own_are_left_out(fred, exchange):
    days = [date(2026, 5, 15), MONDAY, FRIDAY, date(2026, 6, 1)]
    exchange.serve(FRED_PATH, csv([f"observation_date,{IDS}", *(f"{day},1,2,3,4,5" for day in days)]))
    assert set(fred.fetch("macro", MONDAY, FRIDAY)["event_date"]) == {MONDAY, FRIDAY}


@pytest.mark.parametrize("blank", ["", "."])
def test_fred_writes_a_missing_close_as_a_blank_or_a_period(fred, exchange, blank):
    exchange.serve(FRED_PATH, csv([f"observation_date,{IDS}", f"2026-05-18,14.22,{blank},{blank},4.25,{blank}"]))
    assert dict(fred.fetch("macro", MONDAY, FRIDAY).select("series", "close").iter_rows()) == {
        "VIX": 14.22,
        "US10Y": 4.25,
    }


def test_freds_older_name_of_the_day_is_known_too(fred, exchange):
    exchange.serve(FRED_PATH, csv([f"DATE,{IDS}", "2026-05-18,1,2,3,4,5"]))
    assert fred.fetch("macro", MONDAY, FRIDAY).height == 5


def test_fred_may_send_several_tables_in_an_archive(fred, exchange):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("daily_close.csv", "observation_date,VIXCLS,SP500,NASDAQCOM\n2026-05-18,1,2,3\n")
        archive.writestr("daily.csv", "observation_date,DGS10,DEXKOUS\n2026-05-18,4,5\n2026-05-19,.,6\n")
        archive.writestr("README.txt", "read me")
    exchange.serve(FRED_PATH, Reply(buffer.getvalue(), content_type="application/zip"))
    rows = fred.fetch("macro", MONDAY, FRIDAY)
    assert dict(rows.filter(event_date=MONDAY).select("series", "close").iter_rows()) == {
        "VIX": 1, "SP500": 2, "NASDAQ": 3, "US10Y": 4, "USDKRW": 5,
    }  # fmt: skip
    assert rows.height == 6
    exchange.serve(FRED_PATH, Reply(buffer.getvalue()[:-40], content_type="application/zip"))
    with pytest.raises(SourceChanged, match=r"fred answers [0-9,]+ bytes that are no whole archive"):
        fred.fetch("macro", MONDAY, FRIDAY)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("DGS10", "DGS30", r"fred answers without the series \['DGS10'\]; it has \['DEXKOUS', 'DGS30', "),
        ("observation_date", "day", r"fred answers without \['observation_date'\]; it has"),
    ],
)
def test_a_series_or_day_that_fred_names_otherwise_is_named(fred, exchange, old, new, says):
    exchange.fail(FRED_PATH, changed_column(old, new))
    with pytest.raises(SourceChanged, match=says):
        fred.fetch("macro", MONDAY, FRIDAY)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (
            csv([f"observation_date,{IDS}", "2026-05-18,high,2,3,4,5"]),
            r"fred answers \['high'\] where VIXCLS should be",
        ),
        (csv([f"observation_date,{IDS}", "18.May,1,2,3,4,5"]), r"where observation_date should be a date"),
        (csv([f"observation_date,{IDS}", "2026-05-18,1,2,3,4,5,6,7"]), r"fred answers no utf-8 CSV"),
        (Reply(b"", content_type="text/csv"), r"fred answers no utf-8 CSV .*: nothing"),
        (Reply(b"\xff\xfe\x00", content_type="text/csv"), r"fred answers no utf-8 CSV"),
        (Reply(b"no such series", 400, "text/plain"), r"fred answers 400 Bad Request"),
    ],
)
def test_what_is_not_freds_table_is_named(fred, exchange, reply, says):
    exchange.serve(FRED_PATH, reply)
    with pytest.raises(SourceChanged, match=says):
        fred.fetch("macro", MONDAY, FRIDAY)


@pytest.mark.parametrize("name", ["fred", "yahoo"])
@pytest.mark.parametrize("page", [BLOCK_PAGE, replaced(Reply.html("<!DOCTYPE html><html>Sign in</html>"))])
def test_a_page_instead_of_data_shuts_the_source(name, page, request, exchange):
    exchange.fail("*", page)
    source = request.getfixturevalue(name)
    for _ in range(2):
        with pytest.raises(SourceBlocked, match=f"{name} has shut us out"):
            source.fetch("macro", MONDAY, FRIDAY)
    assert exchange.n_calls() == 1, "the second time it was not asked"


@pytest.mark.parametrize("name", ["fred", "yahoo"])
def test_half_an_answer_is_no_answer(name, request, exchange):
    exchange.fail("*", CUT_SHORT)
    with pytest.raises(SourceUnreachable, match=f"{name} gave no usable answer"):
        request.getfixturevalue(name).fetch("macro", MONDAY, FRIDAY)


def one_chart(bars, *, zone=NEW_YORK, hours=(time(9, 30), time(16)), last_tick, symbol="^VIX"):
    return chart(
        [(int(at.timestamp()), close) for at, close in bars], symbol=symbol, zone=zone, hours=hours, last_tick=last_tick
    )


def bars_of(yahoo, exchange, reply, series="VIX", start=date(2026, 1, 1), end=date(2026, 12, 31)):
    """Return day to close of one series whose chart is ``reply``; the others have no rows."""
    exchange.serve(
        f"{YAHOO_PATH}/*", chart_error("Bad Request", "Data doesn't exist for startDate = 1, endDate = 2", 400)
    )
    exchange.serve(f"{YAHOO_PATH}/{YAHOO_SYMBOLS[series].replace('^', '%5E').replace('=', '%3D')}", reply)
    rows = yahoo.fetch("macro", start, end)
    assert set(rows["series"]) <= {series}
    return dict(rows.select("event_date", "close").iter_rows())


@pytest.mark.parametrize(
    ("now", "is_closed"),
    [
        ("2026-05-20 09:31", False),
        ("2026-05-20 15:54", False),
        ("2026-05-20 15:59:58", True),  # the last tick may be seconds before the bell
        ("2026-05-20 16:00:01", True),
    ],
)
def test_a_session_that_is_still_on_has_no_close(yahoo, exchange, now, is_closed):
    tick = datetime.fromisoformat(now).replace(tzinfo=NEW_YORK)
    days = [datetime(2026, 5, day, 9, 30, tzinfo=NEW_YORK) for day in (19, 20)]
    told = bars_of(yahoo, exchange, one_chart(list(zip(days, (14.0, 15.0), strict=True)), last_tick=tick))
    assert told == {date(2026, 5, 19): 14.0} | ({date(2026, 5, 20): 15.0} if is_closed else {})


def test_the_last_close_stands_while_the_next_session_is_not_yet_open(yahoo, exchange):
    tick = datetime(2026, 5, 19, 16, 0, 1, tzinfo=NEW_YORK)
    reply = one_chart([(datetime(2026, 5, 19, 9, 30, tzinfo=NEW_YORK), 14.0)], last_tick=tick)
    tomorrow = {"start": int(datetime(2026, 5, 20, 9, 30, tzinfo=NEW_YORK).timestamp()), "end": 1_779_307_200}
    body = reply.body.decode()
    head, _, tail = body.partition('"start": ')
    moved = f'{head}"start": {tomorrow["start"]}, "end": {tomorrow["end"]}}}' + tail.partition("}")[2]
    assert bars_of(yahoo, exchange, Reply(moved.encode())) == {date(2026, 5, 19): 14.0}


def test_a_day_is_that_of_the_exchanges_clock_at_that_time_summer_and_winter(yahoo, exchange):
    """A currency's day begins at midnight in London: 23:00 UTC of the day before in summer."""
    london, days = ZoneInfo("Europe/London"), [date(2026, 1, 14), date(2026, 7, 14)]
    bars = [(datetime.combine(day, time(), london), 1400.0 + n) for n, day in enumerate(days)]
    for asked_in in (datetime(2026, 1, 20, 12, tzinfo=london), datetime(2026, 7, 20, 12, tzinfo=london)):
        reply = one_chart(bars, zone=london, hours=(time(), time(23, 59)), last_tick=asked_in, symbol="KRW=X")
        assert list(bars_of(yahoo, exchange, reply, "USDKRW")) == days


def test_a_bar_without_a_close_is_no_row_and_of_two_bars_of_a_day_the_last_counts(yahoo, exchange):
    at = [datetime(2026, 5, day, hour, 30, tzinfo=NEW_YORK) for day, hour in ((18, 9), (19, 9), (20, 9), (20, 16))]
    tick = datetime(2026, 5, 20, 16, 30, tzinfo=NEW_YORK)
    told = bars_of(yahoo, exchange, one_chart(list(zip(at, (14.0, None, 15.0, 15.5), strict=True)), last_tick=tick))
    assert told == {date(2026, 5, 18): 14.0, date(2026, 5, 20): 15.5}


@pytest.mark.parametrize(
    "head",
    [
        "Date,Open,High,Low,Close,Volume",
        "\ufeffDate,Open,High,Low,Close,Adj Close,Volume",
        "Volume,Close,Low,High,Open,Date",
    ],
)
def test_a_mirror_may_answer_a_csv_with_a_header(yahoo, exchange, head):
    value = {"Date": "2026-05-18", "Close": "14.22"}
    names = head.lstrip("\ufeff").split(",")
    lines = [
        head,
        ",".join(value.get(name, "0") for name in names),
        ",".join("2026-05-19" if n == "Date" else "N/A" for n in names),
    ]
    assert bars_of(yahoo, exchange, csv(lines)) == {date(2026, 5, 18): 14.22}


def test_a_mirror_that_has_nothing_says_no_data(yahoo, exchange):
    assert bars_of(yahoo, exchange, Reply(b"No data", content_type="text/plain")) == {}


def test_a_mirrors_csv_with_another_header_is_named(yahoo, exchange):
    with pytest.raises(SourceChanged, match=r"yahoo \^VIX answers without \['Close'\]; it has \['Date', 'Last'\]"):
        bars_of(yahoo, exchange, csv(["Date,Last", "2026-05-18,1"]))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            '"close"',
            '"last"',
            r"yahoo \^VIX answers without close; there is \['high', 'last', 'low', 'open', 'volume'\]",
        ),
        ('"timestamp"', '"at"', r"yahoo \^VIX answers without timestamp; there is \['at', 'indicators', 'meta'\]"),
        ('"exchangeTimezoneName"', '"tz"', r"without meta.exchangeTimezoneName; there is \['currency', "),
        ('"America/New_York"', '"Atlantis/Capital"', r"answers the unknown time zone 'Atlantis/Capital'"),
        ('"regularMarketTime"', '"lastTick"', r"without regularMarketTime"),
        ('"regular"', '"usual"', r"without currentTradingPeriod.regular; there is \['usual'\]"),
        ('"chart"', '"charts"', r"without chart; there is \['charts'\]"),
        ('"result": [{', '"result": [], "more": [{', r"without result.0; there is list"),
        ('"close": [14.0]', '"close": [14.0, 15.0]', r"yahoo \^VIX answers 1 bars with 2 closes"),
    ],
)
def test_a_chart_of_another_shape_is_named(yahoo, exchange, old, new, says):
    tick = datetime(2026, 5, 19, 16, 0, 1, tzinfo=NEW_YORK)
    reply = one_chart([(datetime(2026, 5, 19, 9, 30, tzinfo=NEW_YORK), 14.0)], last_tick=tick)
    assert old in reply.body.decode()
    with pytest.raises(SourceChanged, match=says):
        bars_of(yahoo, exchange, Reply(reply.body.decode().replace(old, new).encode()))


def test_a_symbol_yahoo_does_not_know_is_named(yahoo, exchange):
    with pytest.raises(SourceChanged, match=r"yahoo \^VIX answers 404: .*symbol may be delisted"):
        bars_of(yahoo, exchange, chart_error("Not Found", "No data found, symbol may be delisted", 404))
