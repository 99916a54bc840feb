"""The bot's SQLite file as a source: read while the bot writes, its zeros told from unknowns."""

import hashlib
import json
import sqlite3
from datetime import date, datetime

import polars as pl
import pytest

from kstock_batch.errors import SourceChanged, SourceUnreachable
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.bot import Bot
from kstock_batch.settings import Settings

TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (date(2026, 5, day) for day in (19, 20, 21, 22))
SCHEMA = """
CREATE TABLE supply_demand (id INTEGER PRIMARY KEY, ticker TEXT NOT NULL, date TEXT NOT NULL,
  foreign_net REAL DEFAULT 0, institution_net REAL DEFAULT 0, retail_net REAL DEFAULT 0, program_net REAL DEFAULT 0,
  short_balance REAL DEFAULT 0, short_ratio REAL DEFAULT 0, created_at TEXT NOT NULL, UNIQUE(ticker, date));
CREATE TABLE short_selling (id INTEGER PRIMARY KEY, ticker TEXT NOT NULL, date TEXT NOT NULL,
  short_volume INTEGER DEFAULT 0, total_volume INTEGER DEFAULT 0, short_ratio REAL DEFAULT 0,
  short_balance INTEGER DEFAULT 0, short_balance_ratio REAL DEFAULT 0, created_at TEXT NOT NULL, UNIQUE(ticker, date));
CREATE TABLE macro_cache (
  id INTEGER PRIMARY KEY, snapshot_json TEXT, ai_summary TEXT, fetched_at TEXT, created_at TEXT);
"""
AFTER_FINAL = "2026-05-20T09:10:00"  # UTC: 18:10 in Seoul


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "kstock.db"
    with sqlite3.connect(path) as con:
        con.executescript(SCHEMA)
    con.close()
    return path


def put(file, table, **row):
    con = sqlite3.connect(file)
    with con:
        marks = ", ".join("?" for _ in row)
        con.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
    con.close()


def flow(file, ticker="005930", day="2026-05-20", created_at=AFTER_FINAL, **nets):
    put(file, "supply_demand", ticker=ticker, date=day, created_at=created_at, **nets)


def source(file):
    return Bot(Settings(root=file.parent, bot_database=str(file)), None, {})


def fetched(file, dataset="flow", start=WEDNESDAY, end=WEDNESDAY):
    rows = source(file).fetch(dataset, start, end)
    assert rows.columns == [*DATASETS[dataset].table.columns, "source", "available_at"]
    return rows


def test_flows_come_to_the_last_digit_and_count_from_ten_past_six_in_seoul(file):
    flow(file, foreign_net=-93150.0, institution_net=19084.123456789013, retail_net=74066.0)
    rows = fetched(file)
    assert rows.rows() == [
        ("005930", WEDNESDAY, -93150.0, 19084.123456789013, None, "bot", datetime(2026, 5, 20, 9, 10))
    ]
    assert rows.schema["available_at"] == pl.Datetime("us")


def test_a_zero_beside_retail_investors_is_a_zero_and_beside_none_it_is_unknown(file):
    flow(file, "000010", foreign_net=0, institution_net=500.0, retail_net=-500.0)
    flow(file, "000020", foreign_net=0, institution_net=500.0)
    flow(file, "000030", foreign_net=500.0, institution_net=0, retail_net=None)
    assert fetched(file).select("ticker", "foreign_net", "institution_net").rows() == [
        ("000010", 0.0, 500.0),
        ("000020", None, 500.0),
        ("000030", 500.0, None),
    ]


def test_a_row_of_zeros_says_nothing_and_is_no_row(file):
    flow(file, foreign_net=0, institution_net=0, retail_net=0)
    assert fetched(file).is_empty()


@pytest.mark.parametrize(
    ("created_at", "is_final"),
    [
        ("2026-05-20T09:10:00", True),
        ("2026-05-20T09:09:59.999999", False),
        ("2026-05-20 07:15:00", False),
        ("2026-05-20T18:10:00+09:00", True),
        ("2026-05-20T18:09:59+09:00", False),
        ("2026-05-22T00:00:00", True),
    ],
)
def test_flows_collected_before_they_were_final_are_left_out(file, created_at, is_final):
    flow(file, created_at=created_at, foreign_net=1.0, institution_net=2.0, retail_net=-3.0)
    assert fetched(file).height == is_final


def test_days_with_dashes_and_without_are_the_same_days_and_others_stay_away(file):
    late = "2026-05-25T00:00:00"
    for ticker, day in (
        ("000010", "20260519"),
        ("000020", "2026-05-20"),
        ("000030", "20260521"),
        ("000040", "2026-05-22"),
    ):
        flow(file, ticker, day, late, foreign_net=1.0, institution_net=1.0, retail_net=-2.0)
    assert fetched(file, end=THURSDAY)["ticker"].to_list() == ["000020", "000030"]


def test_short_balances_count_from_two_sessions_later_and_zeros_are_unknown(file):
    late = "2026-05-29T00:00:00"
    for ticker, balance, ratio in (("000010", 50_000, 5.04), ("000020", 0, 0.0), ("000030", 7, 0.0)):
        put(
            file,
            "short_selling",
            ticker=ticker,
            date="2026-05-21",
            short_balance=balance,
            short_balance_ratio=ratio,
            created_at=late,
        )
    # two sessions after Thursday the 21st is Tuesday the 26th: Monday is Buddha's birthday, kept on a weekday
    known_at = datetime(2026, 5, 26, 9, 10)
    assert fetched(file, "short_balance", THURSDAY, THURSDAY).rows() == [
        ("000010", THURSDAY, 50_000, 5.04, "bot", known_at),
        ("000030", THURSDAY, 7, None, "bot", known_at),
    ]


def snapshot(file, fetched_at, **values):
    put(file, "macro_cache", id=1, snapshot_json=json.dumps(values), fetched_at=fetched_at, created_at=fetched_at)


def test_the_last_us_closes_are_those_of_the_weekday_before_and_the_rate_is_of_now(file):
    snapshot(file, "2026-05-20T22:05:00.5", vix=14.22, us10y=4.25, usdkrw=1385.4, spx_change_pct=0.3)
    assert fetched(file, "macro", TUESDAY, FRIDAY).rows() == [
        ("US10Y", WEDNESDAY, 4.25, "bot", datetime(2026, 5, 20, 22, 0)),
        ("USDKRW", THURSDAY, 1385.4, "bot", datetime(2026, 5, 20, 22, 5, 0, 500000)),
        ("VIX", WEDNESDAY, 14.22, "bot", datetime(2026, 5, 20, 22, 0)),
    ]


@pytest.mark.parametrize(
    ("fetched_at", "vix_of"),
    [
        ("2026-05-20T13:29:00", TUESDAY),  # 22:29 on Wednesday in Seoul: Tuesday's close still
        ("2026-05-20T13:30:00", None),  # New York trades
        ("2026-05-20T21:59:00", None),
        ("2026-05-22T22:00:00", FRIDAY),  # 07:00 on Saturday
        ("2026-05-24T03:00:00", FRIDAY),  # Sunday
        ("2026-05-25T03:00:00", FRIDAY),  # Monday
    ],
)
def test_what_is_quoted_while_new_york_trades_is_no_close(file, fetched_at, vix_of):
    snapshot(file, fetched_at, vix=14.22)
    days = fetched(file, "macro", date(2026, 5, 1), date(2026, 5, 31))["event_date"].to_list()
    assert days == ([vix_of] if vix_of else [])


def test_a_snapshot_of_other_days_or_of_zeros_has_no_rows(file):
    snapshot(file, "2026-05-20T22:05:00", vix=0, usdkrw=None)
    assert fetched(file, "macro", TUESDAY, FRIDAY).is_empty()
    assert fetched(file, "macro", date(2026, 4, 1), date(2026, 4, 30)).is_empty()


@pytest.mark.parametrize("dataset", ["flow", "short_balance", "macro"])
def test_an_empty_bot_has_no_rows(file, dataset):
    assert fetched(file, dataset).is_empty()


def test_the_file_is_read_while_the_bot_writes_and_no_byte_of_it_changes(file):
    flow(file, foreign_net=1.0, institution_net=2.0, retail_net=-3.0)
    writer = sqlite3.connect(file)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE supply_demand SET foreign_net = 99")
    before = hashlib.sha256(file.read_bytes()).digest()
    assert fetched(file)["foreign_net"].to_list() == [1.0]
    writer.commit()
    assert fetched(file)["foreign_net"].to_list() == [99.0], "what was committed stands in the write-ahead log"
    assert hashlib.sha256(file.read_bytes()).digest() == before
    writer.close()


def test_a_file_that_is_not_there_is_not_made(file):
    file.unlink()
    with pytest.raises(SourceUnreachable, match=r"bot_database = .*kstock\.db is no file\n  fix: correct the path"):
        fetched(file)
    assert not file.exists()
    assert [need.what for need in source(file).needs()] == [f"bot_database = {file} is no file"]


def test_a_bot_that_was_not_named_needs_the_setting(tmp_path):
    assert [need.what for need in Bot(Settings(root=tmp_path), None, {}).needs()] == ["bot_database is not set"]


def test_a_relative_path_is_found_from_the_root_and_a_ready_bot_needs_nothing(file):
    assert Bot(Settings(root=file.parent, bot_database=file.name), None, {}).needs() == []


def test_a_file_that_is_no_database_is_named(file):
    file.write_bytes(b"<html>not a database at all</html>" * 100)
    with pytest.raises(
        SourceUnreachable, match=r"kstock\.db cannot be read: file is not a database\n  fix: see that it is"
    ):
        fetched(file)


def test_a_table_or_column_that_is_gone_is_named(file):
    con = sqlite3.connect(file)
    con.execute("ALTER TABLE supply_demand RENAME COLUMN foreign_net TO frgn_net")
    con.execute("DROP TABLE short_selling")
    con.close()
    with pytest.raises(SourceChanged, match=r"has no columns \['foreign_net'\] in supply_demand, but \['created_at', "):
        fetched(file)
    with pytest.raises(SourceChanged, match=r"kstock\.db has no table short_selling"):
        fetched(file, "short_balance")


def test_a_word_where_a_number_or_an_instant_was_agreed_is_named(file):
    flow(file, foreign_net="many", retail_net=1.0)
    with pytest.raises(
        SourceChanged, match=r"bot supply_demand answers \['many'\] where foreign_net should be a number"
    ):
        fetched(file)
    flow(file, "000020", "2026-05-21", created_at="yesterday", foreign_net=1.0)
    with pytest.raises(SourceChanged, match="bot: 'yesterday' is no instant such as 2026-11-25T09:10:00"):
        fetched(file, start=THURSDAY, end=THURSDAY)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{broken", "snapshot_json is not as agreed"),
        ('["vix"]', "snapshot_json is not as agreed"),
        ('{"vix": "high"}', "snapshot_json is not as agreed"),
        ('{"fear": 14.2}', r"snapshot_json has none of \['us10y', 'usdkrw', 'vix'\], but \['fear'\]"),
    ],
)
def test_a_snapshot_of_another_shape_is_named(file, text, says):
    put(file, "macro_cache", id=1, snapshot_json=text, fetched_at="2026-05-20T22:05:00")
    with pytest.raises(SourceChanged, match=says):
        fetched(file, "macro")
