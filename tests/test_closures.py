"""What the data show of the calendar: closures it lists as sessions, and sessions it does not list."""

from datetime import date, datetime, time, timedelta

import polars as pl
import pytest

from hand_store import hand_store, put
from kstock_batch.ingest.calendar import extend_calendar, make_calendar, read_calendar
from kstock_batch.ingest.closures import Answer, settle_session, was_open
from kstock_batch.market.sessions import krx_closes, to_utc
from kstock_batch.serving.night.agenda import has_no_session
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run

ELECTION, CONSTITUTION_DAY = date(2026, 6, 3), date(2026, 7, 17)
HOUR = timedelta(hours=1)
TRADED, ZEROS, NOTHING = Answer("a", 2600, 2550), Answer("a", 2600), Answer("b", 0)
ECHO = Answer("a", 2600, 2550, 2549)


@pytest.mark.parametrize(
    ("answers", "hours", "is_over", "open_"),
    [
        ([TRADED], 0.3, False, True),
        ([TRADED, NOTHING], 9, False, True),
        ([Answer("a", 3, 3)], 9, False, None),  # half a dozen rows prove nothing
        ([ZEROS, Answer("b", 3, 3)], 9, False, None),  # one stock that traded is enough against a closure
        ([ZEROS], 0.3, False, False),
        ([ZEROS], 0.2, False, None),  # not final yet
        ([Answer("a", 5)], 9, False, None),  # five names may all stand still
        ([ECHO], 1, False, False),
        ([NOTHING], 9, False, None),  # late, or broken
        ([NOTHING, Answer("c", 0)], 2.9, False, None),
        ([NOTHING, Answer("c", 0)], 3, False, False),
        ([NOTHING], 70, False, None),  # a Friday's rows may come on Monday
        ([NOTHING], 70, True, False),
        ([], 70, True, None),  # nobody answered
    ],
)
def test_a_day_was_open_or_closed_by_what_was_answered_or_it_cannot_be_told(answers, hours, is_over, open_):
    assert was_open(answers, hours * HOUR, is_over=is_over) is open_


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store whose calendar lists the two closures as sessions, as the library does."""
    monkeypatch.setattr("kstock_batch.market.sessions.CLOSURES", frozenset())
    monkeypatch.setattr("kstock_batch.ingest.calendar.CLOSURES", frozenset())
    with hand_store(tmp_path, []) as warehouse:
        yield warehouse


def whole_market(day, *, volume, n=60):
    return pl.DataFrame(
        [
            {"ticker": f"{i:05}0", "session": day, "price_basis": "raw", "open": 10.0, "high": 10.0, "low": 10.0}
            | {"close": 10.0, "volume": volume + i if volume else 0, "available_at": to_utc(day, time(15, 45))}
            for i in range(n)
        ]
    )


def settled(store, tmp_path, day, *answers, at=None):
    run = Run("run", "test", at or to_utc(day, time(18, 30)), store)
    return settle_session(store.con, Settings.load(tmp_path, environ={}), run, day, answers)


@pytest.mark.parametrize("day", [ELECTION, CONSTITUTION_DAY])
@pytest.mark.parametrize("volume", [0, 1000], ids=["zeros", "the rows of the session before"])
def test_a_listed_session_without_trades_becomes_a_day_off_that_a_night_skips(day, volume, store, tmp_path):
    evening = to_utc(day, time(18, 30))
    run = Run("run", "test", evening, store)
    extend_calendar(store.con, Settings.load(tmp_path, environ={}), run)
    assert day in read_calendar(store.con)
    before = day - timedelta(days=1)
    put(store, "raw_price", whole_market(before, volume=1000))
    told = settled(store, tmp_path, day, Answer.of(store.con, "pykrx", day, whole_market(day, volume=volume)))
    assert told.startswith(f"{day} was no session of the exchange after all: pykrx has 60 ")
    assert has_no_session(store.con, day, day, evening)
    assert not has_no_session(store.con, before, before, evening)
    assert settled(store, tmp_path, day, ZEROS) is None, "it is known"
    ((found, is_session, why),) = store.con.execute("SELECT session, is_session, why FROM observed_session").fetchall()
    assert (found, is_session, why[:17]) == (day, False, "pykrx has 60 rows" if not volume else "pykrx has 60 stoc")


def test_a_closure_that_was_observed_outlives_the_next_build_of_the_calendar(store, tmp_path):
    settled(store, tmp_path, ELECTION, ZEROS)
    (tmp_path / "calendar.toml").write_text('[closed]\n2026-08-14 = "x"\n', encoding="utf-8")
    run = Run("run", "test", datetime(2026, 6, 5), store)
    calendar = extend_calendar(store.con, Settings.load(tmp_path, environ={}), run)
    assert ELECTION not in calendar and date(2026, 8, 14) not in calendar and CONSTITUTION_DAY in calendar


def test_rows_that_come_after_all_open_a_day_that_was_taken_for_closed(store, tmp_path):
    settled(store, tmp_path, ELECTION, NOTHING, Answer("c", 0))
    assert ELECTION not in read_calendar(store.con)
    told = settled(store, tmp_path, ELECTION, TRADED)
    assert told == "2026-06-03 was a session of the exchange after all: a has 2,550 stocks that traded"
    assert ELECTION in read_calendar(store.con)


def test_a_session_that_the_calendar_did_not_know_but_that_has_rows_is_one(store, tmp_path):
    day = date(2026, 5, 5)  # Children's Day
    assert settled(store, tmp_path, day, TRADED).startswith("2026-05-05 was a session of the exchange after all")
    assert read_calendar(store.con)[day].cutoff_at == datetime(2026, 5, 5, 9, 30)
    assert settled(store, tmp_path, date(2026, 5, 9), TRADED) is None, "but never a Saturday"


def test_a_session_found_in_the_past_marks_what_counts_sessions(store, tmp_path):
    extend_calendar(store.con, Settings.load(tmp_path, environ={}), Run("run", "test", datetime(2026, 5, 8), store))
    put(store, "raw_price", whole_market(date(2026, 5, 7), volume=5))
    settled(store, tmp_path, date(2026, 5, 5), TRADED, at=datetime(2026, 5, 8, 9))
    assert store.con.execute("SELECT table_name, from_date FROM feature_due").fetchall() == [
        ("raw_calendar", date(2026, 5, 5))
    ]
    assert store.con.execute("SELECT from_date FROM label_due").fetchall() == [(date(2026, 5, 5),)]


def test_a_person_and_stored_trades_have_the_last_word(store, tmp_path):
    (tmp_path / "calendar.toml").write_text('[open]\n2026-06-03 = "it was open"\n', encoding="utf-8")
    assert settled(store, tmp_path, ELECTION, ZEROS) is None
    put(store, "raw_price", whole_market(CONSTITUTION_DAY, volume=5))
    assert settled(store, tmp_path, CONSTITUTION_DAY, ZEROS) is None
    assert {ELECTION, CONSTITUTION_DAY} <= read_calendar(store.con).keys()


def test_a_library_that_drops_a_session_with_stored_trades_is_not_believed(store, tmp_path):
    settings, day = Settings.load(tmp_path, environ={}), date(2026, 5, 5)
    closes = krx_closes(date(2010, 1, 1), date(2026, 12, 31)) | {day: datetime(2026, 5, 5, 6, 30)}
    run = Run("run", "test", datetime(2026, 5, 6), store)
    make_calendar(store.con, {}, dict(sorted(closes.items())), settings, run)
    put(store, "raw_price", whole_market(day, volume=5))
    assert day in extend_calendar(store.con, settings, run)
