"""The calendar of the store: library, what the data showed, what a person wrote; nights keep the cutoff they had."""

from datetime import date, datetime, time, timedelta

import polars as pl
import pytest

from hand_store import hand_store, listing, prices, put
from kstock_batch.errors import ConfigError
from kstock_batch.features.sessions import cutoff_of
from kstock_batch.ingest.calendar import Hours, extend_calendar, make_calendar, read_calendar
from kstock_batch.ingest.versions import Delta
from kstock_batch.market.calendar import Overrides
from kstock_batch.market.sessions import cutoff_at, krx_closes, to_utc
from kstock_batch.market.tables import TABLES
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run

NOW = datetime(2026, 11, 25, 12)
EXAM_DAY = date(2026, 11, 19)
ELECTION, CONSTITUTION_DAY = date(2026, 6, 3), date(2026, 7, 17)


def file_of(tmp_path, text):
    path = tmp_path / "calendar.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(tmp_path, text):
    with pytest.raises(ConfigError) as caught:
        Overrides.load(file_of(tmp_path, text))
    return str(caught.value)


@pytest.fixture
def store(tmp_path):
    """A store of no sessions yet."""
    with hand_store(tmp_path, []) as warehouse:
        yield warehouse


def extended(store, tmp_path, *, now=NOW, **settings):
    run = Run("run", "test", now, store)
    return extend_calendar(store.con, Settings.load(tmp_path, environ={}, **settings), run)


def due(store):
    return store.con.execute(
        "SELECT table_name, from_date FROM feature_due UNION ALL SELECT 'label', from_date FROM label_due ORDER BY 1"
    ).fetchall()


# Hours


def test_exam_days_close_an_hour_late_and_a_years_first_session_as_ever():
    closes = krx_closes(date(2019, 1, 1), date(2026, 12, 31))
    late = [day for day, at in closes.items() if at != to_utc(day, time(15, 30))]
    assert [str(day) for day in late] == [
        *("2019-11-14", "2020-12-03", "2021-11-18", "2022-11-17", "2023-11-16", "2024-11-14", "2025-11-13"),
        "2026-11-19",
    ]
    assert {closes[day] - to_utc(day, time(15, 30)) for day in late} == {timedelta(hours=1)}
    assert closes[date(2026, 1, 2)] == datetime(2026, 1, 2, 6, 30)


def test_a_night_is_never_earlier_than_the_final_prices_of_its_session():
    assert cutoff_at(EXAM_DAY, time(16), to_utc(EXAM_DAY, time(16, 30))) == to_utc(EXAM_DAY, time(16, 45))
    assert cutoff_at(EXAM_DAY, time(18, 30), to_utc(EXAM_DAY, time(16, 30))) == to_utc(EXAM_DAY, time(18, 30))


# The file


def test_a_calendar_file_closes_opens_and_moves_hours(tmp_path):
    path = file_of(
        tmp_path,
        '[closed]\n2026-06-03 = "election"\n[open]\n2026-06-05 = "not closed"\n[closes]\n2026-06-04 = "16:30"\n',
    )
    listed = {date(2026, 6, day): datetime(2026, 6, day, 6, 30) for day in (2, 3, 4, 8)}
    assert Overrides.load(path).applied(listed) == {
        date(2026, 6, 2): datetime(2026, 6, 2, 6, 30),
        date(2026, 6, 4): datetime(2026, 6, 4, 7, 30),
        date(2026, 6, 5): datetime(2026, 6, 5, 6, 30),
        date(2026, 6, 8): datetime(2026, 6, 8, 6, 30),
    }


def test_no_file_says_nothing_but_one_that_a_setting_names_must_be_there(store, tmp_path):
    assert not extended(store, tmp_path).keys() & {ELECTION, CONSTITUTION_DAY}
    with pytest.raises(ConfigError, match=r"mine\.toml: is no calendar file: .*No such file"):
        extended(store, tmp_path, calendar="mine.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[closed", "is no calendar file"),
        ("[holidays]\n", r"unknown tables ['holidays'], it has ['closed', 'open', 'closes']"),
        ('closed = "2026-06-03"', "closed = '2026-06-03' is not a table of dates"),
        ('[closed]\n2026-6-3 = "x"', "[closed] 2026-6-3 is no date like 2026-06-03"),
        ('[closed]\n2026-02-30 = "x"', "[closed] 2026-02-30 is no date like 2026-06-03"),
        ("[closed]\n2026-06-03 = true", "[closed] 2026-06-03 = True is no text"),
        ('[closed]\n2026-06-03 = " "', "[closed] 2026-06-03 = ' ' is no text"),
        ('[open]\n2026-06-06 = "x"', "[open] 2026-06-06 is a Saturday, on which the exchange never opens"),
        ('[closed]\n2026-06-03 = "x"\n[open]\n2026-06-03 = "x"', "2026-06-03 is closed and has a session at once"),
        ('[closed]\n2026-06-03 = "x"\n[closes]\n2026-06-03 = "16:30"', "2026-06-03 is closed and has a session"),
        ('[closes]\n2026-06-03 = "late"', "[closes] 2026-06-03 = 'late' is no time from 09:00 to 20:00"),
        ('[closes]\n2026-06-03 = "23:30"', "[closes] 2026-06-03 = '23:30' is no time from 09:00 to 20:00"),
        ('[closes]\n2026-06-03 = "24:30"', "[closes] 2026-06-03 = '24:30' is no time from 09:00 to 20:00"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused_in_one_sentence(text, says, tmp_path):
    told = refused(tmp_path, text)
    assert says in told and "calendar.toml" in told and told.count("\n") == 1, told


def test_hours_of_a_day_that_is_no_session_are_refused(store, tmp_path):
    file_of(tmp_path, '[closes]\n2026-11-22 = "16:30"\n')
    with pytest.raises(ConfigError, match=r"calendar\.toml: \[closes\] 2026-11-22 is no session"):
        extended(store, tmp_path)


# The store


def test_the_two_closures_that_the_library_lists_are_no_sessions_of_a_store(store, tmp_path):
    calendar = extended(store, tmp_path)
    assert ELECTION not in calendar and CONSTITUTION_DAY not in calendar
    assert date(2026, 6, 2) in calendar and date(2026, 7, 20) in calendar
    assert calendar[EXAM_DAY] == Hours(datetime(2026, 11, 19, 7, 30), datetime(2026, 11, 19, 9, 30))
    assert max(calendar) > date(2027, 5, 1)


def test_a_calendar_that_says_what_it_said_is_not_made_anew(store, tmp_path):
    first = extended(store, tmp_path)
    assert extended(store, tmp_path, now=NOW + timedelta(days=1)) == first
    assert store.con.execute("SELECT count(*) FROM calendar_build").fetchall() == [(1,)]


def test_a_closure_written_down_leaves_the_calendar_and_comes_back_when_it_is_deleted(store, tmp_path):
    day = date(2026, 11, 26)
    assert day in extended(store, tmp_path)
    path = file_of(tmp_path, '[closed]\n2026-11-26 = "a mistake"\n')
    assert day not in extended(store, tmp_path)
    assert day not in read_calendar(store.con)
    path.unlink()
    assert day in extended(store, tmp_path)
    assert store.con.execute("SELECT n_added, n_removed FROM calendar_build").fetchall()[1:] == [(0, 1), (1, 0)]
    assert due(store) == [], "nothing is stored that could change"


def test_a_past_session_that_comes_or_goes_marks_what_counts_sessions(store, tmp_path):
    extended(store, tmp_path)
    put(store, "raw_price", prices("005930", [date(2026, 11, 20), date(2026, 11, 24)], [100, 101]))
    file_of(tmp_path, '[closed]\n2026-11-23 = "found out late"\n')
    extended(store, tmp_path)
    assert due(store) == [("label", date(2026, 11, 23)), ("raw_calendar", date(2026, 11, 23))]


def test_a_calendar_that_reaches_further_marks_the_past_sessions_it_learns_of(store, tmp_path):
    """An older program's calendar that lacks a past session: the rest of it is extended, and the gap is made good."""
    gap = date(2026, 11, 23)
    closes = {day: at for day, at in krx_closes(date(2026, 1, 1), date(2026, 11, 30)).items() if day != gap}
    settings, run = Settings.load(tmp_path, environ={}), Run("run", "test", NOW, store)
    make_calendar(store.con, {}, closes, settings, run)
    put(store, "raw_price", prices("005930", [date(2026, 11, 20), date(2026, 11, 24)], [100, 101]))
    extended(store, tmp_path)
    assert ("raw_calendar", date(2010, 1, 4)) in due(store), "from the first session on that is new"


def test_a_closure_of_a_day_on_which_stocks_traded_is_refused_and_nothing_changes(store, tmp_path):
    extended(store, tmp_path)
    put(store, "raw_price", prices("005930", [date(2026, 11, 23)], [100]))
    before = read_calendar(store.con)
    file_of(tmp_path, '[closed]\n2026-11-23 = "wrong"\n')
    with pytest.raises(ConfigError, match=r"calendar\.toml closes 2026-11-23, but the store holds prices of 1 stocks"):
        extended(store, tmp_path)
    assert read_calendar(store.con) == before


def test_rows_without_a_trade_of_a_day_that_was_none_are_retracted_and_what_was_made_of_it_is_dropped(store, tmp_path):
    day = date(2026, 11, 23)
    extended(store, tmp_path)
    put(store, "raw_price", prices("005930", [day], [-100]))
    put(store, "raw_listing", [listing("005930")], available_at=datetime(2000, 1, 1))
    facts = {"day": day}
    store.con.execute("INSERT INTO feature_session VALUES ($day, 1, 1, 'x', 'run', now()::TIMESTAMP)", facts)
    store.con.execute("INSERT INTO scored_session VALUES ($day, 'm', 'f', 'run', NULL)", facts)
    file_of(tmp_path, '[closed]\n2026-11-23 = "a day off"\n')
    assert day not in extended(store, tmp_path)
    assert store.con.execute("SELECT retracted_at FROM raw_price").fetchall() == [(NOW,)]
    assert store.con.execute("SELECT retracted_at FROM raw_listing").fetchall() == [(None,)]
    for table in ("feature_session", "scored_session"):
        assert store.con.execute(f"SELECT count(*) FROM {table}").fetchall() == [(0,)]


# The cutoff


def test_another_cutoff_counts_from_the_coming_night_on_and_past_sessions_keep_theirs(store, tmp_path):
    first = extended(store, tmp_path)
    moved = extended(store, tmp_path, cutoff="17:00")
    assert {day: moved[day] for day in moved if first[day].cutoff_at <= NOW} == {
        day: hours for day, hours in first.items() if hours.cutoff_at <= NOW
    }
    assert moved[date(2026, 11, 26)].cutoff_at == datetime(2026, 11, 26, 8)
    assert first.keys() == moved.keys()
    assert due(store) == []


def test_a_new_store_has_the_settings_cutoff_everywhere_but_not_before_final_prices(store, tmp_path):
    calendar = extended(store, tmp_path, cutoff="16:00")
    assert calendar[date(2026, 11, 18)].cutoff_at == datetime(2026, 11, 18, 7)
    assert calendar[EXAM_DAY].cutoff_at == datetime(2026, 11, 19, 7, 45)


def test_a_cutoff_moved_on_the_afternoon_of_a_session_whose_prices_are_stored_marks_it(store, tmp_path):
    afternoon = datetime(2026, 11, 25, 7)
    extended(store, tmp_path, now=afternoon)
    put(store, "raw_price", prices("005930", [date(2026, 11, 25)], [100]))
    extended(store, tmp_path, now=afternoon, cutoff="17:00")
    assert due(store) == [("raw_calendar", date(2026, 11, 25))]


def test_a_fact_reopens_the_first_night_whose_own_cutoff_is_not_before_it(store, tmp_path):
    """The nights of Monday and Tuesday ended at 18:30, those from Wednesday on at 17:00."""
    monday = date(2026, 11, 23)
    extended(store, tmp_path, now=to_utc(date(2026, 11, 24), time(19)))
    extended(store, tmp_path, now=to_utc(date(2026, 11, 24), time(19)), cutoff="17:00")
    for day, first_night in ((0, 0), (2, 3), (4, 7)):  # Friday's after the cutoff is next Monday's
        known = to_utc(monday + timedelta(days=day), time(17, 30))
        facts = {"ticker": "005930", "session": monday, "foreign_net": float(day), "source": "x", "available_at": known}
        store.con.register(
            "incoming", pl.DataFrame([facts]).with_columns(institution_net=None, foreign_holding_pct=None)
        )
        run = Run("run", "test", known, store)
        store.con.execute("DELETE FROM feature_due")
        Delta.of(store.con, TABLES["raw_flow"], known, retroactive=False).store(store.con, run)
        assert due(store) == [("raw_flow", monday + timedelta(days=first_night))]


def test_a_night_knows_up_to_the_cutoff_it_had(store, tmp_path):
    extended(store, tmp_path, cutoff="17:00")
    assert cutoff_of(store.con, date(2026, 11, 24)) == datetime(2026, 11, 24, 8)
    assert cutoff_of(store.con, date(2026, 11, 22)) == datetime(2026, 11, 22, 9, 30), "a Sunday"
