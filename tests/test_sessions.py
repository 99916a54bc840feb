"""The exchange's calendar: closures the library does not know, Seoul's clock in UTC, arithmetic on sessions."""

from datetime import date, datetime

import pytest

from kstock_batch.errors import DataNotReady
from kstock_batch.market.sessions import Sessions, cutoff_at, krx_sessions, seoul_date

JUNE = Sessions(krx_sessions(date(2024, 6, 3), date(2024, 6, 14)))  # the 6th is Memorial Day


def test_weekends_and_holidays_are_no_sessions():
    assert [day.day for day in JUNE.days] == [3, 4, 5, 7, 10, 11, 12, 13, 14]


@pytest.mark.parametrize("closed", [date(2026, 6, 3), date(2026, 7, 17)])
def test_closures_that_the_calendar_library_lists_as_sessions_are_none(closed):
    assert closed not in krx_sessions(date(2026, 1, 1), date(2026, 12, 31))


def test_the_same_range_gives_the_same_sessions_whatever_lies_around_it():
    year = krx_sessions(date(2023, 1, 1), date(2025, 12, 31))
    assert [day for day in year if date(2024, 6, 3) <= day <= date(2024, 6, 14)] == JUNE.days


def test_a_nights_cutoff_is_half_past_six_in_seoul():
    assert cutoff_at(date(2024, 6, 28)) == datetime(2024, 6, 28, 9, 30)


def test_seouls_date_runs_nine_hours_ahead():
    assert seoul_date(datetime(2024, 6, 28, 14, 59)) == date(2024, 6, 28)
    assert seoul_date(datetime(2024, 6, 28, 15, 0)) == date(2024, 6, 29)


def test_a_day_is_placed_among_the_sessions():
    assert date(2024, 6, 7) in JUNE
    assert date(2024, 6, 6) not in JUNE
    assert JUNE.at_or_before(date(2024, 6, 6)) == date(2024, 6, 5)
    assert JUNE.at_or_before(date(2024, 6, 7)) == date(2024, 6, 7)
    assert JUNE.between(date(2024, 6, 5), date(2024, 6, 9)) == [date(2024, 6, 5), date(2024, 6, 7)]


def test_going_back_counts_sessions_and_stops_at_the_first():
    assert JUNE.back(date(2024, 6, 10), 2) == date(2024, 6, 5)
    assert JUNE.back(date(2024, 6, 9), 1) == date(2024, 6, 5)
    assert JUNE.back(date(2024, 6, 10), 99) == date(2024, 6, 3)


def test_a_day_before_all_sessions_is_refused():
    with pytest.raises(DataNotReady, match="no session at or before 2024-06-01"):
        JUNE.at_or_before(date(2024, 6, 1))
