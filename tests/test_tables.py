"""The contracts of the raw tables are those of the store, and each rule is true for what it is named after."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from kstock_batch.ingest.contract import judge
from kstock_batch.ingest.sources.files import DTYPES
from kstock_batch.market.tables import TABLES, rules_for
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

FRIDAY, SATURDAY, TODAY = date(2024, 6, 28), date(2024, 6, 29), date(2024, 7, 1)
NOW = datetime(2024, 7, 1, 3)  # noon in Seoul, while the exchange is open
SQL_TYPES = {"text": "VARCHAR", "number": "DOUBLE", "count": "BIGINT", "date": "DATE", "flag": "BOOLEAN"}
STAMPS = {"source": "VARCHAR", "available_at": "TIMESTAMP", "ingested_at": "TIMESTAMP"}
VERSIONS = {"version": "USMALLINT", "retracted_at": "TIMESTAMP"}


def row(table: str, **values: object) -> pl.DataFrame:
    """One row of a table with the given values, its other columns null."""
    columns = {name: DTYPES[kind] for name, kind in TABLES[table].columns.items()}
    schema = {**columns, "source": pl.String(), "available_at": pl.Datetime("us")}
    stamped = {"source": "test", "available_at": datetime(2024, 6, 28, 6, 45), **values}
    return pl.DataFrame([{name: stamped.get(name) for name in schema}], schema=schema)


def broken_rule(table: str, **values: object) -> str | None:
    """The rule that one row breaks."""
    rows = row(table, **values).with_columns(**TABLES[table].derived)
    _, bad = judge(rows, rules_for(TABLES[table], sessions=[FRIDAY, date(2999, 1, 4)], now=NOW, today=TODAY))
    return bad["rule"].to_list()[0] if bad.height else None


PRICE = {"ticker": "005930", "session": FRIDAY, "open": 10.0, "high": 12.0, "low": 9.0, "close": 11.0, "volume": 5}
LISTING = {"ticker": "005930", "name": "삼성전자", "market": "KOSPI"}
KEYED = {"ticker": "005930", "session": FRIDAY}
GOOD = {
    "raw_price": PRICE,
    "raw_market_cap": {**KEYED, "market_cap": 1e12},
    "raw_listing": LISTING,
    "raw_financial": {"ticker": "005930", "period_end": date(2024, 3, 31)},
    "raw_valuation": KEYED,
    "raw_flow": {**KEYED, "foreign_holding_pct": 50.0},
    "raw_short_balance": {**KEYED, "short_balance": 1_000},
    "raw_designation": {"ticker": "005930", "kind": "administrative", "designated_on": FRIDAY},
    "raw_market_flow": {"market": "KOSPI", "investor": "개인", "session": FRIDAY, "net_value": -1.0},
    "raw_corporate_action": {**KEYED, "factor": 0.02},
    "raw_macro": {"series": "VIX", "event_date": SATURDAY, "close": 14.0},
}


@pytest.mark.parametrize("table", TABLES)
def test_a_contract_has_the_columns_and_types_of_its_table_in_the_store(table, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "schema"
    with Warehouse.open(Settings(root=root)) as warehouse:
        found = warehouse.con.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = $t ORDER BY column_index",
            {"t": table},
        ).fetchall()
    wanted = {name: SQL_TYPES[kind] for name, kind in TABLES[table].columns.items()}
    assert dict(found) == wanted | STAMPS | VERSIONS


@pytest.mark.parametrize("table", TABLES)
def test_every_column_the_store_wants_filled_is_required_keyed_or_derived(table, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "schema"
    with Warehouse.open(Settings(root=root)) as warehouse:
        found = warehouse.con.execute(
            "SELECT column_name FROM duckdb_columns() WHERE table_name = $t AND NOT is_nullable", {"t": table}
        ).fetchall()
    contract = TABLES[table]
    sure = {*contract.required, *contract.key, *contract.derived, *STAMPS}
    assert {name for (name,) in found} <= sure


@pytest.mark.parametrize("table", TABLES)
def test_a_good_row_breaks_no_rule(table):
    assert broken_rule(table, **GOOD[table]) is None


@pytest.mark.parametrize(("table", "column"), [(t.name, c) for t in TABLES.values() for c in t.required])
def test_what_is_required_may_not_be_missing(table, column):
    assert broken_rule(table, **(GOOD[table] | {column: None})) == f"{column}_is_missing"


@pytest.mark.parametrize("table", TABLES)
def test_a_row_without_a_time_of_knowledge_is_refused(table):
    assert broken_rule(table, **(GOOD[table] | {"available_at": None})) == "available_at_is_missing"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("table", "column"), [(t.name, c) for t in TABLES.values() for c, kind in t.columns.items() if kind == "number"]
)
def test_no_number_is_nan_or_infinite(table, column, value):
    assert broken_rule(table, **(GOOD[table] | {column: value})) == f"{column}_is_not_finite"


@pytest.mark.parametrize(
    ("rule", "table", "values"),
    [
        ("price_is_not_positive", "raw_price", {"low": 0.0}),
        ("price_is_not_positive", "raw_price", {"close": -0.01, "low": -1.0}),
        ("high_below_low", "raw_price", {"high": 8.0}),
        ("high_below_open_or_close", "raw_price", {"high": 10.5}),
        ("low_above_open_or_close", "raw_price", {"low": 10.5}),
        ("volume_is_negative", "raw_price", {"volume": -1}),
        ("not_a_session", "raw_price", {"session": SATURDAY}),
        ("date_in_the_future", "raw_price", {"session": date(2999, 1, 4)}),
        ("ticker_is_not_six_characters", "raw_price", {"ticker": "5930"}),
        ("market_cap_is_not_positive", "raw_market_cap", {"market_cap": 0.0}),
        ("unknown_market", "raw_listing", {"market": "NYSE"}),
        ("known_before_period_end", "raw_financial", {"period_end": date(2024, 6, 30)}),
        ("holding_is_no_percentage", "raw_flow", {"foreign_holding_pct": 100.1}),
        ("short_balance_is_negative", "raw_short_balance", {"short_balance": -1}),
        ("not_a_session", "raw_flow", {"session": SATURDAY}),
        ("known_after_its_own_night", "raw_price", {"available_at": datetime(2024, 6, 28, 9, 30, 1)}),
        ("not_final_yet", "raw_flow", {"available_at": NOW + timedelta(seconds=1)}),
        ("date_in_the_future", "raw_macro", {"event_date": date(2024, 7, 2)}),
    ],
)
def test_a_rule_is_broken_by_what_it_is_named_after(rule, table, values):
    assert broken_rule(table, **(GOOD[table] | values)) == rule


@pytest.mark.parametrize("code", ["0004A0", "00088K", "ABCDEF", "999999"])
def test_a_code_of_six_digits_and_capitals_is_a_ticker(code):
    assert broken_rule("raw_price", **(PRICE | {"ticker": code})) is None


def test_today_is_not_the_future():
    assert broken_rule("raw_macro", **(GOOD["raw_macro"] | {"event_date": TODAY})) is None


def test_what_became_final_this_instant_is_final():
    assert broken_rule("raw_valuation", **(KEYED | {"available_at": NOW})) is None


def test_a_filing_may_be_dated_ahead_because_it_is_used_only_then():
    assert broken_rule("raw_financial", **(GOOD["raw_financial"] | {"available_at": NOW + timedelta(days=1)})) is None


def test_a_suspended_stock_without_a_last_close_has_no_price():
    nothing = {"open": 0.0, "high": 0.0, "low": 0.0, "close": 0.0, "volume": 0}
    assert broken_rule("raw_price", **(PRICE | nothing)) == "price_is_not_positive"


def test_zeros_beside_a_volume_are_no_suspension():
    zeros = {"open": 0.0, "high": 0.0, "low": 0.0, "volume": 5}
    assert broken_rule("raw_price", **(PRICE | zeros)) == "price_is_not_positive"


@pytest.mark.parametrize(("name", "code", "is_spac", "is_preferred"), [
    ("표본스팩1호", "450140", True, False),
    ("삼성전자우", "005935", False, True),
    ("새주식", "0004A0", False, False),
])  # fmt: skip
def test_a_listing_that_leaves_them_out_tells_spacs_by_name_and_preferred_shares_by_code(
    name, code, is_spac, is_preferred
):
    rows = row("raw_listing", ticker=code, name=name, market="KOSDAQ").with_columns(**TABLES["raw_listing"].derived)
    assert rows.select("is_spac", "is_preferred").row(0) == (is_spac, is_preferred)


def test_both_of_two_rows_with_one_key_are_refused():
    rows = pl.concat([row("raw_price", **PRICE), row("raw_price", **(PRICE | {"close": 10.5}))])
    rows = pl.concat([rows, row("raw_price", **(PRICE | {"ticker": "000660"}))])
    good, bad = judge(rows, rules_for(TABLES["raw_price"], sessions=[FRIDAY], now=NOW, today=TODAY))
    assert (good["ticker"].to_list(), bad["rule"].to_list()) == (["000660"], ["duplicate_key"] * 2)


def test_no_rows_break_no_rule():
    empty = row("raw_price", **PRICE).clear()
    good, bad = judge(empty, rules_for(TABLES["raw_price"], sessions=[], now=NOW, today=TODAY))
    assert (good.height, bad.height) == (0, 0)
