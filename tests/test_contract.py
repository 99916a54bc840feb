"""The contract of a batch: tick grids, the daily limit, moves since the close before, market caps, two markets."""

from datetime import date, datetime, time, timedelta

import polars as pl
import pytest

from hand_store import hand_store, put, weekdays
from kstock_batch.ingest.calendar import Hours
from kstock_batch.ingest.contract import final_rows, judge_batch
from kstock_batch.market.price_moves import N_FOLLOWED
from kstock_batch.market.sessions import cutoff_at, to_utc
from kstock_batch.market.tables import TABLES
from kstock_batch.market.ticks import is_off_grid

DAYS = weekdays(date(2024, 1, 2), 30)
TODAY = DAYS[20]
NOW = cutoff_at(DAYS[-1])
CALENDAR = {day: Hours(to_utc(day, time(15, 30)), cutoff_at(day)) for day in DAYS}
TYPES = {"text": pl.String, "number": pl.Float64, "count": pl.Int64, "date": pl.Date, "flag": pl.Boolean}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of three stocks' raw prices up to the session before TODAY.

    000010 traded every session at 1,000; 000020 was halted on the session before; 000030 is new since two sessions.
    """
    with hand_store(tmp_path_factory.mktemp("contract"), DAYS) as warehouse:
        held = [bar("000010", day) for day in DAYS[:20]]
        held += [bar("000020", day, volume=0 if day == DAYS[19] else 5) for day in DAYS[:20]]
        held += [bar("000030", day) for day in DAYS[18:20]]
        put(warehouse, "raw_price", batch("raw_price", held))
        yield warehouse


def bar(ticker, session, close=1000.0, change_pct=0.0, **values):
    row = {"ticker": ticker, "session": session, "price_basis": "raw", "open": close, "high": close, "low": close}
    row |= {"close": close, "change_pct": change_pct, "volume": 5, "shares_outstanding": 1_000}
    return row | {"source": "test", "available_at": to_utc(session, time(15, 45))} | values


def batch(table, rows):
    schema = {name: TYPES[kind] for name, kind in TABLES[table].columns.items()}
    schema |= {"source": pl.String, "available_at": pl.Datetime("us")}
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


def broken(store, *rows, table="raw_price"):
    """What the contract makes of rows: ticker → rule, of those that are rejected."""
    judged = judge_batch(store.con, TABLES[table], batch(table, rows), CALENDAR, NOW)
    assert judged.good.height + judged.bad.height == len(rows)
    assert judged.good.columns == batch(table, []).columns
    assert judged.bad.columns == [*batch(table, []).columns, "rule"]
    return dict(judged.bad.select("ticker", "rule").iter_rows())


# Ticks


@pytest.mark.parametrize(
    ("day", "market", "on", "off"),
    [
        (date(2023, 1, 20), "KOSPI", [999, 1005, 5010, 10_050, 50_100, 100_500, 501_000], [1001, 5005, 10_010]),
        (date(2023, 1, 20), "KOSPI", [99_900, 499_500], [50_050, 100_100, 500_500]),
        (
            date(2023, 1, 20),
            "KOSDAQ",
            [999, 1005, 5010, 10_050, 50_100, 100_100, 500_100],
            [1001, 5005, 10_010, 50_050],
        ),
        (date(2023, 1, 20), "KONEX", [100_100], [100_050]),
        (date(2023, 1, 25), "KOSPI", [1999, 2005, 5010, 19_990, 20_050, 199_900, 200_500, 501_000], [2001, 5005]),
        (date(2023, 1, 25), "KOSDAQ", [1001], [20_010, 50_050, 200_100, 500_500]),
        (date(2023, 1, 20), None, [100_100, 500_100], [1001, 50_050]),
        (date(2024, 1, 2), None, [1001], [500_500]),
    ],
)
def test_a_price_stands_on_its_markets_grid_of_the_day(day, market, on, off):
    frame = pl.DataFrame({"p": [float(p) for p in on + off]}).with_columns(d=pl.lit(day), m=pl.lit(market))
    found = frame.select(is_off_grid(pl.col("p"), pl.col("d"), pl.col("m") if market else None)).to_series()
    assert found.to_list() == [False] * len(on) + [True] * len(off)


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_a_raw_price_off_the_tick_grid_is_set_aside(column, store):
    row = bar("000010", TODAY, 5010.0, high=5020.0, low=5000.0) | {"close": 5010.0}
    assert broken(store, row | {"ticker": "000099"}) == {}
    assert broken(store, row | {"ticker": "000099", column: row[column] - 1 + 2 * (column == "low")}) == {
        "000099": "off_the_tick_grid"
    }


def test_adjusted_prices_and_stocks_that_did_not_trade_are_not_held_to_the_grid(store):
    adjusted = bar("000099", TODAY, 5001.3) | {"price_basis": "adjusted"}
    halted = bar("000098", TODAY, 5001.0) | {"volume": 0}
    assert broken(store, adjusted, halted) == {}


# The daily limit


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"close": 1300.0, "high": 1300.0, "change_pct": 30.0}, None),
        ({"close": 700.0, "low": 700.0, "change_pct": -30.0}, None),
        ({"close": 1301.0, "high": 1301.0, "change_pct": 30.1}, "beyond_the_daily_limit"),
        ({"close": 699.0, "low": 699.0, "change_pct": -30.1}, "beyond_the_daily_limit"),
        ({"high": 1301.0}, "beyond_the_daily_limit"),
        ({"low": 699.0}, "beyond_the_daily_limit"),
        ({"low": 100.0}, "beyond_the_daily_limit"),
        ({"close": 1301.0, "high": 1301.0, "change_pct": None}, "beyond_the_daily_limit"),
        ({"close": 500.0, "low": 500.0, "high": 500.0, "open": 500.0, "change_pct": None}, None),  # perhaps ex rights
    ],
)
def test_a_price_beyond_30_percent_of_its_base_price_is_set_aside(row, rule, store):
    assert broken(store, bar("000010", TODAY) | row) == ({"000010": rule} if rule else {})


@pytest.mark.parametrize("ticker", ["000020", "000030", "000077"])
def test_first_days_and_days_after_a_halt_have_no_limit(ticker, store):
    assert broken(store, bar(ticker, TODAY, 4000.0, 300.0)) == {}
    assert broken(store, bar(ticker, TODAY, 100.0, -90.0)) == {}


def test_the_days_of_a_liquidation_have_no_limit_and_a_week_later_there_is_one(store):
    """A delisting begins with a halt: here the last trade before it is the one of DAYS[9]."""
    fall, close = [], 100_000.0
    for day in DAYS[11:20]:
        fall.append(bar("000050", day, close / 2, -50.0))
        close /= 2
    rows = [row | dict.fromkeys(("open", "high", "low", "close"), row["close"] // 100 * 100) for row in fall]
    assert broken(store, bar("000050", DAYS[9], 100_000.0), *rows[:N_FOLLOWED]) == {}
    assert broken(store, *rows) == {"000050": "beyond_the_daily_limit"}


# The close before


def test_a_base_price_above_a_close_that_was_traded_is_a_close_that_is_wrong(store):
    ten_times = bar("000010", TODAY, 10_000.0, 0.0)
    assert broken(store, ten_times) == {"000010": "base_price_above_a_traded_close"}
    assert broken(store, ten_times | {"ticker": "000020"}) == {}, "over a halt it may rise"
    assert broken(store, bar("000010", TODAY, 500.0, 0.0)) == {}, "ex rights it falls"
    assert broken(store, bar("000010", TODAY, 50.0, 0.0)) == {"000010": "base_price_far_below_a_traded_close"}


def test_what_a_source_states_as_a_corporate_action_explains_a_price(store):
    action = {"ticker": "000010", "session": TODAY, "factor": 10.0}
    store.con.execute("BEGIN TRANSACTION")
    put(store, "raw_corporate_action", [action], available_at=NOW)
    assert broken(store, bar("000010", TODAY, 10_000.0, 0.0)) == {}
    store.con.execute("ROLLBACK")


def test_a_wrong_row_does_not_take_the_right_one_after_it_with_it(store):
    wrong, right = bar("000010", TODAY, 20_000.0, 0.0), bar("000010", DAYS[21], 1000.0, 0.0)
    judged = judge_batch(store.con, TABLES["raw_price"], batch("raw_price", [wrong, right]), CALENDAR, NOW)
    assert judged.bad.select("session", "rule").rows() == [(TODAY, "base_price_above_a_traded_close")]
    assert judged.good["session"].to_list() == [DAYS[21]]
    assert judged.reasons == {"base_price_above_a_traded_close": 1}


def test_a_row_that_comes_again_is_judged_by_itself_not_by_what_is_stored_of_it(store):
    assert broken(store, bar("000010", DAYS[19], 1100.0, 10.0), bar("000010", TODAY, 1100.0, 0.0)) == {}


# Other tables


def test_a_market_cap_is_close_times_shares(store):
    cap = {"session": DAYS[19], "shares_outstanding": 1000.0, "available_at": to_utc(DAYS[19], time(15, 45))}
    rows = [
        cap | {"ticker": "000010", "source": "a", "market_cap": 1e6},
        cap | {"ticker": "000020", "source": "a", "market_cap": 1e9},
        cap | {"ticker": "000077", "source": "a", "market_cap": 1e9},  # whose close is not known
        cap | {"ticker": "000030", "source": "a", "market_cap": 1e9, "shares_outstanding": None},
    ]
    assert broken(store, *rows, table="raw_market_cap") == {"000020": "market_cap_is_not_close_times_shares"}


def test_a_ticker_in_two_markets_is_set_aside_by_that_name(store):
    listed = {"name": "이름", "is_spac": False, "is_preferred": False, "source": "a", "available_at": NOW}
    rows = [listed | {"ticker": "000010", "market": market} for market in ("KOSPI", "KOSDAQ")]
    assert broken(store, *rows, listed | {"ticker": "000020", "market": "KOSPI"}, table="raw_listing") == {
        "000010": "in_two_markets"
    }


def test_a_stock_of_which_only_blocks_changed_hands_stood_at_its_close():
    repaired = {name: 0.0 for name in ("open", "high", "low")}
    rows = batch("raw_price", [bar("000010", TODAY) | repaired, bar("000020", TODAY, change_pct=1.0) | repaired])
    told = rows.with_columns(**TABLES["raw_price"].derived)
    assert told["open"].to_list() == [1000.0, 0.0], "zeros beside a change are a source's mistake"


# Knowledge


def test_a_price_known_after_the_cutoff_of_its_own_night_is_set_aside_whatever_the_cutoff(store):
    early = {day: Hours(h.closes_at, h.cutoff_at - timedelta(hours=2)) for day, h in CALENDAR.items()}
    row = batch("raw_price", [bar("000010", TODAY) | {"available_at": to_utc(TODAY, time(17))}])
    assert judge_batch(store.con, TABLES["raw_price"], row, CALENDAR, NOW).bad.is_empty()
    assert judge_batch(store.con, TABLES["raw_price"], row, early, NOW).reasons == {"known_after_its_own_night": 1}


def test_prices_of_a_late_session_are_final_an_hour_later():
    late = CALENDAR | {TODAY: Hours(to_utc(TODAY, time(16, 30)), cutoff_at(TODAY))}
    rows = batch("raw_price", [bar("000010", DAYS[19]), bar("000010", TODAY)])
    known = final_rows(TABLES["raw_price"], rows, late)["available_at"].to_list()
    assert known == [to_utc(DAYS[19], time(15, 45)), to_utc(TODAY, time(16, 45))]
    flows = batch("raw_flow", [{"ticker": "000010", "session": TODAY, "available_at": to_utc(TODAY, time(18, 10))}])
    assert final_rows(TABLES["raw_flow"], flows, late)["available_at"].item() == to_utc(TODAY, time(18, 10))
    action = {"ticker": "000010", "session": TODAY, "factor": 0.5, "available_at": datetime(2024, 1, 2)}
    told = final_rows(TABLES["raw_corporate_action"], batch("raw_corporate_action", [action]), late)
    assert told["available_at"].item() == datetime(2024, 1, 2), "it is announced before its session"


def test_an_empty_batch_breaks_nothing(store):
    for table in TABLES:
        judged = judge_batch(store.con, TABLES[table], batch(table, []), CALENDAR, NOW)
        assert (judged.good.height, judged.bad.height) == (0, 0)
