"""Market-wide features: which US session a Korean night knows, and the regime's truth table."""

from datetime import date, datetime, timedelta

import polars as pl
import pytest

from hand_store import hand_store, put, weekdays
from kstock_batch.features.knowledge import BEFORE_ALL, EVERYTHING, Block
from kstock_batch.features.market_wide import read_market_wide
from kstock_batch.market.sessions import cutoff_at

DAYS = weekdays(date(2024, 3, 4), 10)  # a Monday
WEEKS = Block(BEFORE_ALL, DAYS[0], DAYS[-1], cutoff_at(DAYS[0]), cutoff_at(DAYS[-1]))
US_CLOSE_IN_UTC = timedelta(hours=22)  # 07:00 the next morning in Seoul
MIDNIGHT_IN_UTC = timedelta(hours=15)


def series(name, values, known_after):
    days = list(values)
    return pl.DataFrame(
        {
            "series": [name] * len(days),
            "event_date": days,
            "close": [float(values[day]) for day in days],
            "available_at": [datetime.combine(day, datetime.min.time()) + known_after for day in days],
        }
    )


def market_wide(tmp_path, *, vix, spx, usdkrw):
    with hand_store(tmp_path, DAYS) as warehouse:
        for frame in (
            series("VIX", vix, US_CLOSE_IN_UTC),
            series("SP500", spx, US_CLOSE_IN_UTC),
            series("USDKRW", usdkrw, MIDNIGHT_IN_UTC),
        ):
            put(warehouse, "raw_macro", frame)
        found = read_market_wide(warehouse.con, WEEKS, EVERYTHING)
    return {row["as_of"]: row for row in found.to_dicts()}


def test_a_night_knows_the_us_session_before_it_and_not_the_one_of_the_same_date(tmp_path):
    friday, monday, tuesday = date(2024, 3, 1), DAYS[0], DAYS[1]
    found = market_wide(
        tmp_path,
        vix={friday: 13, monday: 14, tuesday: 15},
        spx={date(2024, 2, 29): 100, friday: 101, monday: 99.99, tuesday: 50},
        usdkrw={friday: 1330, monday: 1340, tuesday: 1350},
    )
    assert (found[monday]["vix"], found[monday]["usdkrw"]) == (13, 1330)
    assert found[monday]["spx_change_pct"] == pytest.approx(1.0)
    assert found[tuesday]["vix"] == 14
    assert found[tuesday]["spx_change_pct"] == pytest.approx(-1.0)


def test_a_series_that_stopped_is_unknown_after_ten_days(tmp_path):
    start = date(2024, 3, 1)
    found = market_wide(tmp_path, vix={start: 13}, spx={start: 100}, usdkrw={start: 1330})
    assert found[DAYS[5]]["vix"] == 13
    assert found[DAYS[9]]["vix"] is None


@pytest.mark.parametrize(
    ("spx", "vix", "usdkrw", "regime"),
    [
        (-1.0, 25, 0.5, 1),
        (-1.01, 25.01, 0, 0),
        (0.01, 17.99, 0.5, 2),
        (0, 12, 0, 1),
        (2, 18, 0, 1),
        (-3, 16, 0, 1),
        (-3, 30, 1, 0),
    ],
)
def test_the_regime_follows_its_truth_table(tmp_path, spx, vix, usdkrw, regime):
    before, day = date(2024, 2, 29), date(2024, 3, 1)
    found = market_wide(
        tmp_path,
        vix={before: 1, day: vix},
        # 1024 and 100 plus whole percents are exact in binary, so that "exactly -1 %" is exactly that
        spx={before: 10000, day: 10000 + 100 * spx},
        usdkrw={before: 1000, day: 1000 + 10 * usdkrw},
    )
    assert found[DAYS[0]]["regime_encoded"] == regime


def test_the_regime_is_unknown_when_one_of_its_inputs_is(tmp_path):
    day = date(2024, 3, 1)
    found = market_wide(tmp_path, vix={day: 12}, spx={day: 100}, usdkrw={day: 1300})
    assert found[DAYS[0]]["spx_change_pct"] is None
    assert found[DAYS[0]]["regime_encoded"] is None
