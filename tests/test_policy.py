"""The policy calendar in closed form, and its announcement."""

from datetime import date, datetime

import polars as pl
import pytest

from kstock_batch.market.policy import PolicyEntry, policy_bonus
from kstock_batch.market.sectors import SECTOR_CODES
from kstock_batch.market.sessions import cutoff_at


def bonus(sector, market, day=date(2026, 3, 2), calendar=None):
    row = pl.DataFrame(
        {
            "as_of": [day],
            "cutoff_at": [cutoff_at(day)],
            "market": [market],
            "sector_encoded": [SECTOR_CODES.get(sector, 0)],
        }
    )
    expr = policy_bonus(calendar) if calendar else policy_bonus()
    return row.select(expr.alias("bonus")).item()


@pytest.mark.parametrize(
    ("sector", "market", "points"),
    [
        ("금융", "KOSPI", 20),
        ("금융", "KOSDAQ", 20),
        ("자동차", "KOSPI", 17),
        ("헬스케어", "KOSDAQ", 15),
        ("반도체", "KOSPI", 10),
        ("지주사", "KOSPI", 15),
        ("보험", "KOSPI", 15),
        ("게임", "KOSDAQ", 10),
        ("게임", "KOSPI", 5),
        (None, "KOSPI", 5),
    ],
)
def test_the_bonus_of_2026_is_its_closed_form(sector, market, points):
    assert bonus(sector, market) == points


def test_there_is_no_bonus_outside_the_years_measures():
    assert bonus("금융", "KOSPI", date(2025, 12, 30)) == 0
    assert bonus("금융", "KOSPI", date(2027, 1, 4)) == 0


def test_a_measure_counts_only_once_it_was_announced():
    entry = PolicyEntry(datetime(2026, 3, 2, 10), date(2026, 1, 1), date(2026, 12, 31), for_all=7)
    assert bonus(None, "KOSPI", date(2026, 3, 2), (entry,)) == 0, "announced half an hour after that night's cutoff"
    assert bonus(None, "KOSPI", date(2026, 3, 3), (entry,)) == 7
