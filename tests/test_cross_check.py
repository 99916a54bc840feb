"""The cross-check: who gives a second opinion, what counts as another value, who is believed, what a person sees."""

from __future__ import annotations

import polars as pl
import pytest

from factories import copy_root, opened, store_rows
from kstock_batch.errors import SourceUnreachable
from kstock_batch.ingest.live.agreement import TOLERANCES, compared_columns, is_beyond
from kstock_batch.market.tables import TABLES
from kstock_batch.settings import Settings
from kstock_batch.store.audits import run_audits
from live_night import (
    ANY,
    DAYS,
    MONDAY,
    N_STOCKS,
    PRICE,
    TICKERS,
    WHOLE,
    Told,
    evening,
    night,
    nothing,
    prepared,
    with_cell,
)

FRIDAY, TUESDAY, WEDNESDAY = DAYS[ANY - 1], DAYS[ANY + 1], DAYS[ANY + 2]
STOCK = TICKERS[7]
CLOSE = 10_000.0 + 700 + 10 * ANY


@pytest.fixture(scope="module")
def _friday(tmp_path_factory):
    root = prepared(tmp_path_factory.mktemp("friday") / "root")
    night(root, Told("pykrx", WHOLE), day=FRIDAY)
    return root


@pytest.fixture
def friday(_friday, tmp_path):
    return copy_root(_friday, tmp_path / "root")


def late_krx(day=MONDAY):
    """KRX's own interface has nothing of a session on its evening."""
    return Told("krx", PRICE).on("price", day, nothing)


def two_nights(root, odd):
    """Monday's prices come from pykrx, and krx tells them on Tuesday, with ``odd`` in them; return both nights."""
    krx, pykrx = late_krx(), Told("pykrx", PRICE)
    first = night(root, krx, pykrx)
    krx.heal()
    krx.on("price", TUESDAY, nothing)
    if odd:
        krx.on("price", MONDAY, odd)
    return first, night(root, krx, pykrx, day=TUESDAY)


def prices(root, day=MONDAY, ticker=STOCK):
    return store_rows(
        root,
        f"SELECT source, close, version FROM raw_price WHERE session = '{day}' AND ticker = '{ticker}'"
        " ORDER BY version",
    )


def found(root, as_of):
    with opened(Settings(root=root).store) as con:
        return run_audits(con, as_of, ["raw_price_sources_disagree"])[0]


# Who is asked


def test_what_one_source_told_in_the_evening_another_confirms_the_next_night(friday):
    first, second = two_nights(friday, None)
    assert [check.day for check in first.checks] == [FRIDAY]
    (check,) = [check for check in second.checks if check.day == MONDAY]
    assert (check.source, check.stored_by, check.n_common, check.n_disagreeing) == ("krx", "pykrx", N_STOCKS, 0)
    assert prices(friday) == [("pykrx", CLOSE, 1)]
    assert store_rows(friday, "SELECT count(*) FROM source_disagreement") == [(0,)]


def test_a_second_opinion_is_heard_once(friday):
    two_nights(friday, None)
    krx, pykrx = Told("krx", PRICE), Told("pykrx", PRICE)
    night(friday, krx.on("price", WEDNESDAY, nothing), pykrx, day=WEDNESDAY)
    assert krx.days_asked("price") == [WEDNESDAY, TUESDAY]
    assert pykrx.days_asked("price") == [WEDNESDAY]


def test_who_had_nothing_tonight_is_not_asked_again_tonight(friday):
    krx = late_krx()
    night(friday, krx, Told("pykrx", PRICE))
    assert krx.days_asked("price") == [MONDAY, FRIDAY]
    night(friday, krx, Told("pykrx", PRICE))
    assert krx.days_asked("price") == [MONDAY, FRIDAY]


def test_files_of_a_whole_year_are_no_second_opinion(friday):
    marcap = Told("marcap", {"price": "year"})
    night(friday, Told("pykrx", PRICE), marcap)
    assert marcap.asked == []


def test_second_opinions_wait_when_the_nights_calls_are_used_up(friday):
    krx = late_krx()
    night(friday, krx, Told("pykrx", PRICE), calls_a_night=2)
    assert krx.days_asked("price") == [MONDAY]


def test_a_second_source_that_fails_changes_nothing_and_is_asked_on_the_next_night(friday):
    down = SourceUnreachable("krx gave no answer", fix="later")
    krx = Told("krx", PRICE).on("price", None, down)
    night(friday, krx, Told("pykrx", PRICE))
    assert prices(friday) == [("pykrx", CLOSE, 1)]
    krx.heal()
    done = night(friday, krx, Told("pykrx", PRICE), day=TUESDAY)
    assert {check.day for check in done.checks} >= {MONDAY, FRIDAY}


# What counts


@pytest.mark.parametrize(
    ("table", "column", "one", "other", "beyond"),
    [
        ("raw_price", "close", 10_000.0, 10_000.4, False),
        ("raw_price", "close", 10_000.0, 10_010.0, True),
        ("raw_price", "volume", 1_000_000, 1_000_900, False),
        ("raw_price", "volume", 1_000_000, 1_002_000, True),
        ("raw_price", "change_pct", 1.23, 1.24, False),
        ("raw_price", "change_pct", 1.23, -1.23, True),
        ("raw_price", "shares_outstanding", 10, 11, True),
        ("raw_flow", "foreign_net", 0.0, 1.0, False),
        ("raw_flow", "foreign_net", -500.0, 500.0, True),
        ("raw_valuation", "per", 12.34, 12.39, False),
        ("raw_valuation", "per", 12.34, 13.0, True),
        ("raw_price", "close", 10_000.0, None, False),
        ("raw_price", "close", None, 10_000.0, False),
    ],
)
def test_two_values_differ_when_rounding_does_not_explain_it(table, column, one, other, beyond):
    rows = pl.DataFrame({column: [one], "other": [other]}, schema={column: pl.Float64, "other": pl.Float64})
    assert rows.select(is_beyond(TABLES[table], column, "other")).item() is beyond


def test_every_number_of_a_stocks_session_is_compared():
    for table in TABLES.values():
        if table.on_session and "ticker" in table.columns and table.name != "raw_corporate_action":
            numbers = {name for name, kind in table.columns.items() if kind in ("number", "count")}
            assert set(compared_columns(table)) == numbers, table.name
    assert TOLERANCES.keys() <= TABLES.keys()


# Who is believed


def test_a_value_that_the_source_before_it_tells_otherwise_is_corrected_from_now_on_and_recorded(friday):
    _, second = two_nights(friday, with_cell(STOCK, close=CLOSE + 10))
    assert prices(friday) == [("pykrx", CLOSE, 1), ("krx", CLOSE + 10, 2)]
    known = store_rows(friday, f"SELECT available_at FROM raw_price WHERE ticker = '{STOCK}' AND version = 2")
    assert known == [(evening(TUESDAY),)]
    rows = store_rows(
        friday, "SELECT table_name, ticker, event_date, column_name, source, value, other_source, other_value"
        " FROM source_disagreement"
    )  # fmt: skip
    assert rows == [("raw_price", STOCK, MONDAY, "close", "krx", CLOSE + 10, "pykrx", CLOSE)]
    assert "1 rows disagree" in second.summary
    assert "price of 2026-06-15: 1 of 40 rows differ between pykrx and krx" in second.remarks()


def test_a_source_further_down_the_order_is_heard_but_not_believed(friday):
    krx, pykrx = Told("krx", PRICE), Told("pykrx", PRICE).on("price", MONDAY, with_cell(STOCK, close=CLOSE + 10))
    done = night(friday, krx, pykrx)
    assert prices(friday) == [("krx", CLOSE, 1)]
    (row,) = store_rows(friday, "SELECT source, value, other_source, other_value FROM source_disagreement")
    assert row == ("krx", CLOSE, "pykrx", CLOSE + 10)
    assert [check.n_disagreeing for check in done.checks if check.day == MONDAY] == [1]


def test_what_only_rounding_tells_apart_makes_no_new_version(friday):
    two_nights(friday, lambda rows: rows.with_columns(traded_value=pl.col("traded_value") + 3))
    assert store_rows(friday, f"SELECT max(version) FROM raw_price WHERE session = '{MONDAY}'") == [(1,)]


def test_a_stock_that_only_the_source_before_it_has_is_added(friday):
    krx, pykrx = late_krx(), Told("pykrx", PRICE)
    pykrx.on("price", MONDAY, lambda rows: rows.filter(pl.col("ticker") != STOCK))
    night(friday, krx, pykrx)
    krx.heal()
    night(friday, krx, pykrx, day=TUESDAY)
    assert prices(friday) == [("krx", CLOSE, 1)]


def test_two_sources_of_two_days_are_a_dispute_and_nothing_is_taken_over(friday):
    higher = lambda rows: rows.with_columns(pl.col("open", "high", "low", "close") + 500)  # noqa: E731
    _, second = two_nights(friday, higher)
    assert prices(friday) == [("pykrx", CLOSE, 1)]
    (check,) = [check for check in second.checks if check.day == MONDAY]
    assert check.is_disputed
    assert str(check) == "price of 2026-06-15: 40 of 40 rows differ between pykrx and krx, nothing was taken over"
    assert store_rows(friday, "SELECT count(*), count(DISTINCT column_name) FROM source_disagreement") == [(160, 4)]


def test_half_a_market_gives_no_second_opinion(friday):
    half = lambda rows: rows.head(5).with_columns(pl.col("close") + 10)  # noqa: E731
    _, second = two_nights(friday, half)
    assert [check for check in second.checks if check.day == MONDAY] == []
    assert prices(friday) == [("pykrx", CLOSE, 1)]


# The audit


def test_the_audit_warns_of_single_names_and_fails_for_one_percent_of_a_market(friday, tmp_path):
    many = copy_root(friday, tmp_path / "many")
    two_nights(friday, with_cell(STOCK, close=CLOSE + 10))
    assert (found(friday, TUESDAY).verdict, found(friday, TUESDAY).n_offending) == ("warn", 1)
    assert found(friday, FRIDAY).verdict == "pass"
    two_nights(many, lambda rows: rows.with_columns(pl.col("open", "high", "low", "close") + 500))
    assert found(many, TUESDAY).verdict == "fail"


def test_the_audit_forgets_what_was_mended_and_what_is_three_sessions_old(friday):
    two_nights(friday, with_cell(STOCK, close=CLOSE + 10))
    assert found(friday, DAYS[ANY + 2]).verdict == "warn"
    assert found(friday, DAYS[ANY + 3]).verdict == "pass"
    import duckdb

    with duckdb.connect(str(Settings(root=friday).store)) as con:
        con.execute("UPDATE raw_price SET close = close - 10 WHERE version = 2")
    assert found(friday, TUESDAY).verdict == "pass"
