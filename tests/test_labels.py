"""Labels: the close five sessions later, halted, delisted, not yet known."""

from datetime import date

import polars as pl
import pytest

from hand_store import KNOWN, hand_store, listing, prices, put, weekdays
from kstock_batch.features.labels import read_labels

DAYS = weekdays(date(2024, 1, 1), 12)


def labels_of(tmp_path, rows, last_seen=None):
    """``last_seen`` = ticker -> the last day its listing was seen; the others are still listed."""
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", rows)
        gone = last_seen or {}
        names = sorted({row["ticker"] for row in rows})
        listings = pl.DataFrame([listing(name) | {"last_seen": gone.get(name)} for name in names])
        put(warehouse, "raw_listing", listings.with_columns(pl.col("last_seen").cast(pl.Date)), available_at=KNOWN)
        found = read_labels(warehouse.con, DAYS[0], DAYS[-1], "adjusted")
    return {(row["ticker"], DAYS.index(row["as_of"])): row for row in found.to_dicts()}


def test_an_outcome_is_the_close_five_sessions_later_and_three_percent_is_enough(tmp_path):
    closes = [100, 100, 100, 100, 100, 103, 102.99, 100, 100, 100]
    found = labels_of(tmp_path, prices("000010", DAYS[:10], closes))
    assert sorted(found) == [("000010", i) for i in range(5)], "five sessions before the end nothing is known yet"
    assert found["000010", 0]["forward_return"] == pytest.approx(0.03)
    assert [found["000010", i]["label_5d"] for i in range(5)] == [1, 0, 0, 0, 0]
    assert found["000010", 0]["known_on"] == DAYS[5]


def test_a_halted_stock_is_worth_its_last_close(tmp_path):
    rows = prices("000010", DAYS[:8], [100, 100, 100, 104, -104, -104, -104, 90])
    found = labels_of(tmp_path, rows)
    assert found["000010", 0]["label_5d"] == 1
    assert not found["000010", 0]["is_delisted"]


def test_a_session_without_a_trade_has_no_label(tmp_path):
    found = labels_of(tmp_path, prices("000010", DAYS[:8], [100, -100, 100, 100, 100, 100, 100, 100]))
    assert ("000010", 1) not in found


def test_a_stock_that_leaves_the_exchange_has_label_0_and_says_so(tmp_path):
    rows = prices("000010", DAYS[:10], [100] * 10) + prices("000020", DAYS[:4], [100, 150, 160, 170])
    found = labels_of(tmp_path, rows, last_seen={"000020": DAYS[3]})
    assert found["000020", 0]["forward_return"] == pytest.approx(0.7)
    assert (found["000020", 0]["label_5d"], found["000020", 0]["is_delisted"]) == (0, True)
    assert not found["000010", 0]["is_delisted"]


def test_a_gap_in_the_rows_is_not_a_delisting(tmp_path):
    rows = prices("000010", DAYS[:8], [100, 100, 100, 100, 105, None, 100, 100]) + prices("000020", DAYS[:8], [9] * 8)
    found = labels_of(tmp_path, rows)
    assert (found["000010", 0]["label_5d"], found["000010", 0]["is_delisted"]) == (1, False)


def test_a_session_of_which_half_is_missing_delists_nobody(tmp_path):
    rows = prices("000010", DAYS[:6], [100] * 6) + prices("000020", DAYS[:5], [100] * 5)
    found = labels_of(tmp_path, rows)
    assert not found["000020", 0]["is_delisted"]


def test_prices_that_come_later_change_no_label(tmp_path):
    """A night's retrain sees the labels that a retrain as of that night sees in a store with all that followed."""
    gap = [100, 100, 100, 100, 105, None, None, None, 100, 100, 100, 100]
    then = labels_of(tmp_path / "then", prices("000010", DAYS[:6], gap[:6]) + prices("000020", DAYS[:6], [9] * 6))
    now = labels_of(tmp_path / "now", prices("000010", DAYS, gap) + prices("000020", DAYS, [9] * 12))
    assert then == {key: row for key, row in now.items() if row["known_on"] <= DAYS[5]}
