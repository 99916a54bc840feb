"""Closed days that the calendar lists: what the answers of a night show, and what they do not."""

from __future__ import annotations

from datetime import date, datetime, time

import polars as pl
import pytest

from factories import copy_root, store_rows
from kstock_batch.errors import DataNotReady
from kstock_batch.ingest.calendar import Hours
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.live.timing import Timetable
from live_night import ANY, DAYS, MONDAY, N_STOCKS, WHOLE, Told, backfilled, evening, night, nothing, prepared, told

FRIDAY, TUESDAY = DAYS[ANY - 1], DAYS[ANY + 1]
EVENING = {**WHOLE, "flow": "day"}


def idle(rows):
    """A market that stands still, as KRX prints a day off."""
    return rows.with_columns(pl.col("volume") * 0)


def stale(rows):
    """Friday's prices under Monday's date."""
    return told("price", FRIDAY, "fdr").with_columns(pl.lit(MONDAY).alias("session"), rows["available_at"])


@pytest.fixture(scope="module")
def _friday(tmp_path_factory):
    root = prepared(tmp_path_factory.mktemp("friday") / "root")
    night(root, Told("pykrx", EVENING), day=FRIDAY)
    return root


@pytest.fixture
def friday(_friday, tmp_path):
    return copy_root(_friday, tmp_path / "root")


def is_session(root, day=MONDAY):
    return store_rows(root, f"SELECT count(*) FROM raw_calendar WHERE session = '{day}'") == [(1,)]


def test_a_day_on_which_nothing_traded_is_closed_and_nothing_else_of_it_is_asked_for(friday):
    pykrx = Told("pykrx", EVENING).on("price", MONDAY, idle)
    done = night(friday, pykrx)
    assert (done.is_closed, done.missing, is_session(friday)) == (True, {}, False)
    assert pykrx.asked == [("price", MONDAY)]
    done.require_complete()
    assert done.learnt[0].startswith("2026-06-15 was no session of the exchange after all: pykrx has 40 rows without")
    assert done.summary == "2026-06-15 was no session of the exchange: 0 new rows of other days"


def test_the_next_night_does_not_ask_for_a_day_that_turned_out_closed(friday):
    pykrx = Told("pykrx", EVENING).on("price", MONDAY, idle)
    night(friday, pykrx)
    done = night(friday, pykrx, day=TUESDAY)
    assert pykrx.days_asked("price") == [MONDAY, TUESDAY]
    assert (done.missing, done.is_closed) == ({}, False)


def test_silence_closes_a_day_once_the_next_session_is_over(friday):
    pykrx = Told("pykrx", WHOLE).on("price", MONDAY, nothing)
    first = night(friday, pykrx)
    assert (first.is_closed, is_session(friday)) == (False, True)
    with pytest.raises(DataNotReady, match="pykrx has nothing yet"):
        first.require_complete()
    second = night(friday, pykrx, day=TUESDAY)
    assert (second.missing, is_session(friday)) == ({}, False)


def test_a_copy_that_is_a_day_behind_closes_no_day(friday):
    """pykrx is down, and fdr still tells Friday's prices."""
    from kstock_batch.errors import SourceUnreachable

    down = SourceUnreachable("pykrx gave no answer", fix="later")
    pykrx = Told("pykrx", WHOLE).on("price", MONDAY, down)
    done = night(friday, pykrx, Told("fdr", {"price": "day"}).on("price", MONDAY, stale))
    assert (done.is_closed, is_session(friday), done.missing.keys()) == (False, True, {"price"})


def test_who_never_told_of_a_day_nearby_closes_none_by_silence(tmp_path):
    root = prepared(tmp_path / "root")
    mute = Told("pykrx", {"price": "day"}).on("price", None, nothing)
    backfill = backfilled(root, mute, start=DAYS[0], end=DAYS[4])
    assert len(backfill.missing["price"][0]) == 5
    assert all(is_session(root, day) for day in DAYS[:5])


def test_a_backfill_leaves_out_a_day_that_turned_out_closed(friday):
    pykrx = Told("pykrx", EVENING).on("price", MONDAY, idle)
    backfill = backfilled(friday, pykrx, start=MONDAY, end=TUESDAY)
    assert (backfill.missing, len(backfill.learnt), is_session(friday)) == ({}, 1, False)
    assert store_rows(friday, f"SELECT count(*) FROM raw_price WHERE session = '{TUESDAY}'") == [(N_STOCKS,)]


# Hours

EXAM, NEXT = date(2026, 11, 19), date(2026, 11, 20)


@pytest.fixture
def timetable():
    """The day of the entrance exam, which closes an hour late, and the one after it."""
    closes = {EXAM: evening(EXAM, time(16, 30)), NEXT: evening(NEXT, time(15, 30))}
    return Timetable({day: Hours(at, evening(day)) for day, at in closes.items()})


def test_on_a_day_that_closes_late_prices_are_final_late(timetable):
    price, flow, macro = (DATASETS[name] for name in ("price", "flow", "macro"))
    assert timetable.final_at(price, EXAM) == evening(EXAM, time(16, 45))
    assert timetable.final_at(price, NEXT) == evening(NEXT, time(15, 45))
    assert timetable.final_at(flow, EXAM) == evening(EXAM, time(18, 10))
    assert timetable.final_at(macro, EXAM) == evening(EXAM, time(7, 0))
    with pytest.raises(DataNotReady, match="provisional until 2026-11-19 16:45 in Seoul"):
        timetable.require_final(EXAM, datetime(2026, 11, 19, 7, 0))
