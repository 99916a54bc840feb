"""What a night has to do: days off, missed sessions, and what it cannot catch up."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from hand_store import KNOWN, hand_store, prices, put, weekdays
from kstock_batch.errors import DataNotReady
from kstock_batch.market.sessions import cutoff_at
from kstock_batch.registry import ModelVersion
from kstock_batch.serving.night.agenda import agenda_asked, agenda_tonight, days_off
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import insert_rows
from small_store import predict

DAYS = weekdays(date(2024, 2, 5), 15)  # the last five have not come yet
NEWEST = DAYS[9]  # Friday 2024-02-16
TONIGHT = cutoff_at(NEWEST)
SATURDAY = NEWEST + timedelta(days=1)


@pytest.fixture
def store(tmp_path):
    """Ten sessions with prices and features, of which the second was predicted and nothing since."""
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("005930", DAYS[:10], [100] * 10))
        rows = pl.DataFrame({"as_of": DAYS[:10]}).with_columns(
            *(pl.lit(1).alias(name) for name in ("n_rows", "n_scoreable")),
            *(pl.lit("x").alias(name) for name in ("definition_digest", "run_id")),
            built_at=pl.lit(KNOWN),
        )
        insert_rows(warehouse.con, "feature_session", rows, order="as_of")
        predict(warehouse, DAYS[1], {"005930": 0.5})
        yield warehouse


def tonight(store, *, learnt=DAYS[0], now=TONIGHT, **settings):
    version = ModelVersion("model-1", Path(), {"as_of": str(learnt)})
    return agenda_tonight(store.con, replace(Settings(), **settings), version, now)


def test_a_night_is_for_the_newest_session_and_catches_up_those_missed_before_it_in_order(store):
    agenda = tonight(store)
    assert (agenda.as_of, agenda.asked, agenda.missed) == (NEWEST, [NEWEST], DAYS[2:9])
    assert (agenda.left_out, agenda.n_older, agenda.n_behind, agenda.day_off) == ({}, 0, 0, None)


def test_a_hole_between_scored_sessions_is_missed_and_what_precedes_the_first_is_not(store):
    for day in (DAYS[3], DAYS[4], DAYS[6]):
        predict(store, day, {"005930": 0.5})
    assert tonight(store).missed == [DAYS[2], DAYS[5], DAYS[7], DAYS[8]]


def test_a_first_night_has_missed_nothing(store):
    store.con.execute("DELETE FROM prediction")
    assert tonight(store).missed == []


@pytest.mark.parametrize(("reach", "missed", "n_older"), [(20, 7, 0), (7, 7, 0), (3, 3, 4), (0, 0, 0)])
def test_it_looks_back_as_far_as_it_was_told_and_counts_what_lies_beyond(store, reach, missed, n_older):
    agenda = tonight(store, catch_up_sessions=reach)
    assert (agenda.missed, agenda.n_older) == (DAYS[9 - missed : 9], n_older)


def test_a_hole_that_lies_wholly_beyond_its_reach_is_counted_too(store):
    for day in DAYS[4:9]:
        predict(store, day, {"005930": 0.5})
    agenda = tonight(store, catch_up_sessions=3)
    assert (agenda.missed, agenda.n_older) == ([], 2)


def test_sessions_whose_outcome_the_model_has_seen_or_without_prices_are_left_out_with_the_reason(store):
    store.con.execute("UPDATE feature_session SET n_scoreable = 0 WHERE as_of = $day", {"day": DAYS[5]})
    store.con.execute("DELETE FROM feature_session WHERE as_of = $day", {"day": DAYS[6]})
    agenda = tonight(store, learnt=DAYS[4])
    assert agenda.missed == [DAYS[4], DAYS[7], DAYS[8]]
    seen = f"model model-1 was trained on outcomes known by {DAYS[4]}"
    empty = "no stock has the prices to be scored"
    assert agenda.left_out == {DAYS[2]: seen, DAYS[3]: seen, DAYS[5]: empty, DAYS[6]: empty}


def test_sessions_that_closed_without_their_prices_arriving_are_counted(store):
    monday_evening = cutoff_at(DAYS[10])
    assert tonight(store, now=monday_evening - timedelta(minutes=1)).n_behind == 0
    assert tonight(store, now=monday_evening).n_behind == 1


def test_a_night_on_a_day_off_knows_it(store):
    assert tonight(store, now=cutoff_at(SATURDAY)).day_off == SATURDAY
    assert tonight(store, now=cutoff_at(DAYS[10])).day_off is None


@pytest.mark.parametrize(
    ("day", "now", "expected"),
    [
        (SATURDAY, cutoff_at(SATURDAY), True),
        (SATURDAY, datetime(2030, 1, 1), True),
        (SATURDAY, cutoff_at(NEWEST), False),  # it has not come: nothing is skipped in advance
        (NEWEST, datetime(2030, 1, 1), False),
        (DAYS[0] - timedelta(days=1), datetime(2030, 1, 1), False),  # the calendar does not reach it
        (DAYS[-1] + timedelta(days=1), datetime(2030, 1, 1), False),
    ],
)
def test_a_day_off_is_one_that_has_come_and_that_the_calendar_knows(store, day, now, expected):
    found = days_off(store.con, None, day, now)
    assert str(found) == (f"{day} is no session of the exchange" if expected else "None")


SUNDAY, MONDAY = SATURDAY + timedelta(days=1), SATURDAY + timedelta(days=2)


@pytest.mark.parametrize(
    ("since", "as_of", "now", "expected"),
    [
        (SATURDAY, SUNDAY, cutoff_at(SUNDAY), f"{SATURDAY} … {SUNDAY} holds no session of the exchange"),
        (SATURDAY, None, cutoff_at(SUNDAY), f"{SATURDAY} … {SUNDAY} holds no session of the exchange"),
        (SUNDAY, SUNDAY, cutoff_at(SUNDAY), f"{SUNDAY} is no session of the exchange"),
        (SATURDAY, SUNDAY, cutoff_at(SATURDAY), None),  # the second has not come
        (NEWEST, SUNDAY, cutoff_at(SUNDAY), None),
        (SATURDAY, MONDAY, cutoff_at(MONDAY), None),
        (SATURDAY, None, cutoff_at(MONDAY), None),
        (None, None, cutoff_at(SUNDAY), None),  # a night that was told no date looks for missed ones
        (DAYS[0] - timedelta(days=2), DAYS[0] - timedelta(days=1), cutoff_at(SUNDAY), None),
    ],
)
def test_a_range_is_off_if_all_its_days_have_come_and_none_is_a_session(store, since, as_of, now, expected):
    assert str(days_off(store.con, since, as_of, now)) == str(expected)


def test_an_empty_store_knows_no_day_off(tmp_path):
    with hand_store(tmp_path, []) as warehouse:
        assert days_off(warehouse.con, None, SATURDAY, datetime(2030, 1, 1)) is None


def test_what_is_asked_for_is_done_and_nothing_else(store):
    settings = Settings()
    assert agenda_asked(store.con, settings, None, DAYS[6]).asked == [DAYS[6]]
    assert agenda_asked(store.con, settings, DAYS[3], DAYS[6]).asked == DAYS[3:7]
    assert agenda_asked(store.con, settings, DAYS[8], None).asked == DAYS[8:10]
    assert agenda_asked(store.con, settings, DAYS[3], DAYS[6]).missed == []
    with pytest.raises(DataNotReady) as refused:
        agenda_asked(store.con, settings, DAYS[10], None)
    assert str(refused.value).startswith(f"the stored prices end {NEWEST}, before --from {DAYS[10]}\n  fix: ingest")
