"""Fundamentals: four quarters out of year-to-date figures, known only from their filing on, null when too old."""

from datetime import date, datetime, timedelta
from math import log10

import pytest

from hand_store import hand_store, prices, put, weekdays
from kstock_batch.features.replay import compute_features

DAYS = weekdays(date(2023, 1, 2), 400)
SEOUL = timedelta(hours=9)


def filing(period_end, days_to_file, net_income, equity=1000.0, debt_ratio=50.0, ticker="000010"):
    day = datetime.combine(period_end + timedelta(days=days_to_file), datetime.min.time())
    return {
        "ticker": ticker,
        "period_end": period_end,
        "net_income_ytd": net_income,
        "equity": equity,
        "debt_ratio": debt_ratio,
        "available_at": day - SEOUL,
    }


YEARLY = [
    filing(date(2022, 3, 31), 46, 10.0),
    filing(date(2022, 6, 30), 46, 25.0),
    filing(date(2022, 9, 30), 46, 45.0),
    filing(date(2022, 12, 31), 91, 70.0),
    filing(date(2023, 3, 31), 46, 30.0, equity=2000.0, debt_ratio=80.0),
]


def fundamentals(tmp_path, *, filings=(), caps=(), printed=(), closes=None):
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS, closes or [100] * len(DAYS)))
        for table, rows in (("raw_financial", filings), ("raw_market_cap", caps), ("raw_valuation", printed)):
            if rows:
                put(warehouse, table, list(rows))
        found = compute_features(warehouse.con, DAYS[0], DAYS[-1])
    return {row["as_of"]: row for row in found.to_dicts()}


def on(session, **values):
    known = datetime.combine(session, datetime.min.time()) + timedelta(hours=15, minutes=45) - SEOUL
    return {"ticker": "000010", "session": session, "available_at": known, **values}


def test_roe_uses_four_quarters_from_the_day_the_filing_may_be_known(tmp_path):
    found = fundamentals(tmp_path, filings=YEARLY)
    assert found[date(2023, 3, 31)]["roe"] is None, "before the yearly report there are no four quarters"
    assert found[date(2023, 4, 3)]["roe"] == pytest.approx(100 * 70 / 1000)
    assert found[date(2023, 5, 15)]["roe"] == pytest.approx(100 * 70 / 1000)
    assert found[date(2023, 5, 16)]["roe"] == pytest.approx(100 * (30 + 70 - 10) / 2000)
    assert found[date(2023, 5, 16)]["debt_ratio"] == 80


def test_a_fiscal_year_need_not_end_in_december(tmp_path):
    filings = [
        filing(date(2022, 3, 31), 91, 40.0),
        filing(date(2022, 6, 30), 46, 5.0),
        filing(date(2022, 9, 30), 46, 15.0),
        filing(date(2022, 12, 31), 46, 30.0),
        filing(date(2021, 12, 31), 46, 28.0),
    ]
    found = fundamentals(tmp_path, filings=filings)
    assert found[date(2023, 2, 15)]["roe"] == pytest.approx(100 * (30 + 40 - 28) / 1000)


def test_half_year_reporters_have_no_four_quarters(tmp_path):
    filings = [
        filing(date(2021, 11, 30), 91, 9.0),
        filing(date(2022, 2, 28), 46, 5.0),
        filing(date(2022, 5, 31), 91, 10.0),
        filing(date(2022, 8, 31), 46, 6.0),
        filing(date(2022, 11, 30), 91, 12.0),
        filing(date(2023, 2, 28), 46, 7.0),
    ]
    found = fundamentals(tmp_path, filings=filings)
    # What a year of theirs would come to, were a half-year taken for one:
    wrong = {100 * won / 1000 for won in (10.0, 12.0, 7 + 12 - 5, 6 + 10 - 5)}
    assert not {row["roe"] for row in found.values()} & wrong


def test_a_short_year_is_not_skipped_for_the_one_before_it(tmp_path):
    """9 + 70 - 45 is July to September, and October to December: the half-year to June is not in it."""
    filings = [
        filing(date(2022, 9, 30), 46, 45.0),
        filing(date(2022, 12, 31), 91, 70.0),
        filing(date(2023, 6, 30), 91, 20.0),
        filing(date(2023, 9, 30), 46, 9.0),
    ]
    found = fundamentals(tmp_path, filings=filings)
    assert found[date(2023, 11, 14)]["roe"] == pytest.approx(7), "half a year is not four quarters"
    assert found[date(2023, 11, 15)]["roe"] == pytest.approx(7)


def test_market_cap_moves_with_the_adjusted_price_between_two_printed_figures(tmp_path):
    closes = [100.0] * 10 + [150.0] * (len(DAYS) - 10)
    found = fundamentals(tmp_path, caps=[on(DAYS[5], market_cap=1e12)], closes=closes)
    assert found[DAYS[4]]["market_cap_log"] is None, "not known before it was printed"
    assert found[DAYS[5]]["market_cap_log"] == pytest.approx(12)
    assert found[DAYS[10]]["market_cap_log"] == pytest.approx(log10(1.5e12))


def test_the_exchanges_own_per_comes_first_and_fades_after_45_days(tmp_path):
    caps = [on(day, market_cap=1400.0) for day in (DAYS[0], DAYS[200])]
    found = fundamentals(tmp_path, filings=YEARLY, caps=caps, printed=[on(date(2023, 4, 14), per=7.0)])
    assert found[date(2023, 4, 13)]["per"] == pytest.approx(1400 / 70)
    assert found[date(2023, 4, 14)]["per"] == pytest.approx(7.0)
    assert found[date(2023, 6, 1)]["per"] == pytest.approx(1400 / 90)


def test_a_company_that_loses_money_has_no_per(tmp_path):
    found = fundamentals(
        tmp_path, filings=[filing(date(2022, 12, 31), 91, -5.0)], caps=[on(DAYS[0], market_cap=1400.0)]
    )
    day = date(2023, 4, 10)
    assert found[day]["per"] is None
    assert found[day]["roe"] == pytest.approx(-0.5)


def test_a_filing_older_than_400_days_is_no_longer_known(tmp_path):
    found = fundamentals(tmp_path, filings=[filing(date(2022, 12, 31), 91, 70.0)])
    assert found[date(2024, 5, 3)]["roe"] == pytest.approx(7)
    assert found[date(2024, 5, 10)]["roe"] is None


def test_debt_ratio_is_liabilities_over_equity_and_the_printed_figure_where_one_of_them_is_unknown(tmp_path):
    known = filing(date(2022, 12, 31), 91, 70.0, debt_ratio=999.0) | {"liabilities": 400.0}
    later = filing(date(2023, 3, 31), 46, 30.0, debt_ratio=77.0) | {"liabilities": None}
    found = fundamentals(tmp_path, filings=[known, later])
    assert found[date(2023, 4, 3)]["debt_ratio"] == pytest.approx(40)
    assert found[date(2023, 5, 16)]["debt_ratio"] == 77


def test_a_missing_year_does_not_silence_the_next_yearly_report(tmp_path):
    filings = [filing(date(2020, 12, 31), 91, 50.0), filing(date(2022, 12, 31), 91, 70.0)]
    assert fundamentals(tmp_path, filings=filings)[date(2023, 4, 3)]["roe"] == pytest.approx(7)


def test_a_correction_of_the_second_source_does_not_displace_the_first(tmp_path):
    first = on(DAYS[5], market_cap=1e12) | {"source": "a"}
    second = on(DAYS[5], market_cap=2e12) | {"source": "b"}
    corrected = second | {"market_cap": 3e12, "version": 2, "available_at": on(DAYS[8])["available_at"]}
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS, [100] * len(DAYS)))
        for row in (first | {"version": 1}, second | {"version": 1}, corrected):
            put(warehouse, "raw_market_cap", [row])
        found = compute_features(warehouse.con, DAYS[0], DAYS[-1])
    caps = dict(found.select("as_of", "market_cap_log").iter_rows())
    assert [caps[DAYS[n]] for n in (5, 8, 12)] == pytest.approx([12.0] * 3)
