"""What only some nights could know: hand-made cases in which a night, a backfill and a replay must agree."""

from datetime import date, datetime, time, timedelta
from math import log10

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from factories import NEW_CODE, SAMSUNG, hand_made, until
from hand_store import KNOWN, hand_store, listing, prices, put, weekdays
from kstock_batch.features import build
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.features.knowledge import Knowledge
from kstock_batch.features.matrix import rolling_sum
from kstock_batch.features.replay import compute_features
from kstock_batch.market.extra_features import ExtraFeature
from kstock_batch.market.sessions import cutoff_at, to_utc
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from test_fundamental import DAYS as YEARS
from test_fundamental import filing, fundamentals, on
from test_market_wide import DAYS as WEEKS
from test_market_wide import US_CLOSE_IN_UTC, series
from test_price_level import DAYS as LEVEL_DAYS
from test_price_level import RAW, SPLIT, raw_rows, split_rows, walk
from test_versions import AT_FIRST, AT_LAST, MONDAY, ON_SUNDAY, WRONG_DAY, Nights, corrected, split_ten_to_one
from test_versions import DAYS as VERSION_DAYS

CLOSE = pl.col("close")
DAYS = weekdays(date(2023, 1, 2), 260)


@pytest.fixture
def nights(tmp_path):
    return Nights(tmp_path)


def up_to_date(warehouse, *, basis="adjusted", extras=()):
    """Build what is due and return feature_daily."""
    run = Run("run", "test", cutoff_at(DAYS[-1]), warehouse)
    bring_up_to_date(warehouse, Settings(root=warehouse.path.parents[1], price_basis=basis), run, extras=extras)
    return warehouse.con.sql("FROM feature_daily ORDER BY as_of, ticker").pl()


def due_from(warehouse, day):
    warehouse.con.execute("INSERT INTO feature_due VALUES ('test', $day, 'x')", {"day": day})


def versions_of(row, *others):
    """Return a row as version 1 and what corrects it as versions 2, 3, …; retracted_at is null unless given."""
    both = [row, *(row | other for other in others)]
    return [{"retracted_at": None} | one | {"version": n} for n, one in enumerate(both, start=1)]


def first_versions(rows):
    return [versioned for row in rows for versioned in versions_of(row)]


# tests/test_build.py


def test_state_is_kept_after_every_fifty_sessions_and_after_the_last_ten_nights(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS[:105], range(1000, 1105)))
        up_to_date(warehouse)
        for n in range(105, 120):
            put(warehouse, "raw_price", prices("000010", DAYS[n : n + 1], [1000 + n]))
            up_to_date(warehouse)
        found = warehouse.con.sql("SELECT DISTINCT session FROM feature_state ORDER BY session").fetchall()
    assert [day for (day,) in found] == [DAYS[48], DAYS[98], *DAYS[110:120]]


def test_a_night_computed_again_goes_on_from_the_night_before_it(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse:
        for days in (DAYS[:70], DAYS[70:71], DAYS[71:72]):
            put(warehouse, "raw_price", prices("000010", days, [1000 + 7 * (day.day % 5) for day in days]))
            before = up_to_date(warehouse)
        for first in (DAYS[71], DAYS[70]):
            due_from(warehouse, first)
            assert_frame_equal(up_to_date(warehouse), before, check_exact=True)


def test_a_block_whose_rows_could_not_be_committed_is_not_in_the_ledger(tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError

    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS[:30], range(1000, 1030)))
        monkeypatch.setattr(build, "_keep_state", full_disk)
        with pytest.raises(OSError):
            up_to_date(warehouse)
        assert warehouse.con.sql("FROM feature_session").fetchall() == []


def test_a_price_counts_for_no_night_that_could_not_know_it(tmp_path):
    rows = prices("000010", DAYS[:30], range(1000, 1030))
    rows[-1]["available_at"] = cutoff_at(DAYS[29]) + timedelta(microseconds=1)
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", rows)
        assert compute_features(warehouse.con, DAYS[0], DAYS[29])["as_of"].max() == DAYS[28]
        knew = Knowledge(known_at=cutoff_at(DAYS[10]))
        assert compute_features(warehouse.con, DAYS[0], DAYS[28], knowledge=knew)["as_of"].max() == DAYS[10]


# tests/test_technical.py


def test_a_rolling_sum_has_the_same_bits_whatever_came_before_its_window():
    values = np.random.default_rng(1).normal(0, 1, (200, 3)) * np.logspace(0, 6, 200)[::-1, None]
    found = rolling_sum(values, 20, 100)
    for n_before in range(19, 100, 7):
        assert (rolling_sum(values[100 - n_before :], 20, 100) == found).all()
    values[150] = np.nan
    assert np.isnan(rolling_sum(values, 20, 100)).sum(axis=0).tolist() == [20] * 3


# tests/test_versions.py


def test_what_arrives_at_the_cutoff_reopens_that_night_and_a_moment_later_the_next(nights):
    nights.ingest(hand_made(), AT_FIRST)
    for at, night in ((time(18, 30), MONDAY), (time(18, 30, 0, 1), MONDAY + timedelta(days=1))):
        news = until(corrected(WRONG_DAY, 90_000.0 + at.microsecond), date(2024, 6, 7))
        nights.ingest(news, to_utc(MONDAY, at))
        assert nights.asked("SELECT max(from_date) FROM feature_due").item() == night


def test_outcomes_are_told_anew_when_a_name_turns_out_to_have_left_the_exchange(nights):
    gone = date(2024, 5, 31)
    frames = hand_made()
    left = {"prices": frames["prices"].filter((pl.col("ticker") != NEW_CODE) | (pl.col("date") <= gone))}
    nights.ingest(frames | left, AT_FIRST)
    nights.build()
    is_delisted = f"SELECT is_delisted FROM label_daily WHERE ticker = '{NEW_CODE}' AND as_of = DATE '2024-05-29'"
    assert nights.asked(is_delisted).item() is False
    last_seen = pl.when(pl.col("ticker") == NEW_CODE).then(pl.lit(gone)).otherwise("last_seen").alias("last_seen")
    told = until(frames | left | {"listings": frames["listings"].with_columns(last_seen)}, date(2024, 6, 7))
    nights.ingest(told, ON_SUNDAY)
    nights.build()
    assert nights.asked(is_delisted).item() is True


def test_nights_after_a_correction_reach_into_the_corrected_past(tmp_path):
    rows = prices("000010", DAYS[:70], [1000] * 70)
    wrong, right = versions_of(rows[30], {"high": 2000.0, "available_at": cutoff_at(DAYS[62]) - timedelta(hours=1)})
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", [*first_versions(rows[:30]), wrong, right, *first_versions(rows[31:61])])
        up_to_date(warehouse)
        for row in rows[61:]:
            put(warehouse, "raw_price", [row])
            nightly = up_to_date(warehouse)
        at_once = compute_features(warehouse.con, DAYS[0], DAYS[69])
    assert nightly["high_52w_ratio"].to_list()[59:] == [1.0] * 3 + [0.5] * 8
    assert_frame_equal(nightly, at_once, check_exact=True)


def test_a_version_that_was_retracted_counts_for_no_night(tmp_path):
    rows = prices("000010", DAYS[:12], range(1000, 1012))
    next_morning = {"available_at": cutoff_at(DAYS[5]) + timedelta(hours=12)}
    wrong, right = versions_of(rows[5], next_morning)
    kept, botched = versions_of(rows[3], {"close": 5000.0, "high": 5000.0})
    others = first_versions(row for n, row in enumerate(rows) if n not in (3, 5))
    never = {"retracted_at": datetime(2030, 1, 1)}
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", [*others, wrong | never, right, kept, botched | never])
        found = compute_features(warehouse.con, DAYS[0], DAYS[11])
    assert found["as_of"].to_list() == [*DAYS[:5], *DAYS[6:12]]
    assert found["bars_available"].to_list() == [1, 2, 3, 4, 5, *range(7, 13)], "what came late is a bar of the past"
    assert found["close"].max() == 1011


def test_a_backfill_sees_a_name_that_moved_as_its_nights_did(tmp_path):
    chips = listing("000010") | {"available_at": KNOWN}
    moved = {"sector": "금융", "available_at": cutoff_at(DAYS[4]) + timedelta(hours=12)}
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS[:8], [1000] * 8))
        put(warehouse, "raw_listing", versions_of(chips, moved))
        found = compute_features(warehouse.con, DAYS[0], DAYS[7])
    assert found["sector_encoded"].to_list() == [7] * 5 + [3] * 3


def test_rescaled_rows_are_worth_as_much_in_as_many_more_shares(nights):
    nights.ingest(hand_made(), AT_FIRST)
    recent = split_ten_to_one(hand_made(), SAMSUNG)
    recent["prices"] = recent["prices"].filter(pl.col("date") >= date(2024, 5, 20))
    nights.ingest(recent, ON_SUNDAY)
    older = nights.asked(
        f"SELECT version, close, volume FROM raw_price WHERE ticker = '{SAMSUNG}' AND session < DATE '2024-05-20'"
        " ORDER BY session, version"
    )
    was, now = (older.filter(pl.col("version") == n) for n in (1, 2))
    assert (now["close"] / was["close"]).to_list() == pytest.approx([0.1] * was.height, rel=1e-3)
    assert (now["volume"] / was["volume"]).to_list() == pytest.approx([10] * was.height, rel=1e-3)


def test_what_came_before_a_restatement_is_told_by_its_earliest_rows(nights):
    """The store met the split night by night, so its rows from then on are at the new level already."""
    whole, split = hand_made(), split_ten_to_one(hand_made(), SAMSUNG)
    is_split = (pl.col("date") >= date(2024, 5, 27)) & (pl.col("ticker") == SAMSUNG)
    met = pl.concat([whole["prices"].filter(~is_split), split["prices"].filter(is_split)])
    nights.ingest(whole | {"prices": met}, AT_FIRST)
    first = date(2024, 4, 15)
    again = nights.ingest(split | {"prices": split["prices"].filter(pl.col("date") >= first)}, ON_SUNDAY)
    ((found,),) = (u.restated for u in again if u.restated)
    assert (found.ticker, found.n_rescaled) == (SAMSUNG, sum(day < first for day in VERSION_DAYS))
    assert found.ratio == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("changed", [{90: 1.2}, {80: 1.05, 81: 1.05, 82: 1.05}, {85: 1.2, 86: 0.7, 87: 1.1}], ids=str)
def test_a_few_rows_that_are_off_by_no_common_ratio_rescale_nothing(nights, changed):
    frames = hand_made()
    nights.ingest(frames, AT_LAST)
    ratio = pl.col("date").replace_strict({VERSION_DAYS[n]: by for n, by in changed.items()}, default=1.0)
    sent = VERSION_DAYS[min(changed) : max(changed) + (1 if len(changed) == 1 else 8)]
    prices = frames["prices"].filter((pl.col("ticker") == SAMSUNG) & pl.col("date").is_in(sent))
    off = prices.with_columns(close=CLOSE * ratio, high=pl.col("high") * 2, low=pl.col("low") / 2)
    again = nights.ingest(frames | {"prices": off}, AT_LAST + timedelta(hours=1))
    assert [u.restated for u in again if u.restated] == []


# tests/test_price_level.py


def misread():
    """Return raw rows whose change in percent first names a split that never was, and is corrected 20 nights later."""
    closes = walk(80)
    rows = raw_rows(closes, [closes[0], *closes[:-1]])
    known = {"available_at": cutoff_at(LEVEL_DAYS[SPLIT + 20]) - timedelta(hours=1)}
    wrong, right = versions_of(rows[SPLIT] | {"change_pct": 100.0}, rows[SPLIT] | known)
    return first_versions(rows[:SPLIT]), wrong, first_versions(rows[SPLIT + 1 :]), right


def test_a_corrected_change_takes_back_the_action_it_named_from_the_night_that_knows_it(tmp_path):
    before, wrong, after, right = misread()
    with hand_store(tmp_path, LEVEL_DAYS) as warehouse:
        put(warehouse, "raw_price", [*before, wrong, *after[:10]])
        up_to_date(warehouse, basis="raw")
        assert warehouse.con.sql("SELECT session FROM price_action").fetchall() == [(LEVEL_DAYS[SPLIT],)]
        put(warehouse, "raw_price", [*after[10:], right])
        nightly = up_to_date(warehouse, basis="raw")
        assert warehouse.con.sql("FROM price_action").fetchall() == []
        at_once = compute_features(warehouse.con, LEVEL_DAYS[0], LEVEL_DAYS[-1], RAW)
    assert_frame_equal(nightly, at_once, check_exact=True)
    returns = nightly["return_3m_pct"].drop_nulls()
    assert returns.abs().max() < 10, "every night that has one knows better"


def test_a_split_computed_again_is_one_action(tmp_path):
    with hand_store(tmp_path, LEVEL_DAYS) as warehouse:
        put(warehouse, "raw_price", split_rows())
        before = up_to_date(warehouse, basis="raw")
        due_from(warehouse, LEVEL_DAYS[0])
        assert_frame_equal(up_to_date(warehouse, basis="raw"), before, check_exact=True)
        assert warehouse.con.sql("SELECT session FROM price_action").fetchall() == [(LEVEL_DAYS[SPLIT],)]


@pytest.mark.parametrize(
    ("move", "shares", "is_printed"),
    [(1.0, 1_300_000, False), (0.5, 10_000_000, False), (0.5, 2_000_000, True)],
    ids=["without a fall", "fewer would explain the fall", "the exchange says the price fell"],
)
def test_more_shares_alone_are_no_split(tmp_path, move, shares, is_printed):
    closes = walk(SPLIT) + [round(move * close) for close in walk(80)[SPLIT:]]
    bases = [closes[0], *closes[:-1]] if is_printed else [None] * 80
    with hand_store(tmp_path, LEVEL_DAYS) as warehouse:
        put(warehouse, "raw_price", raw_rows(closes, bases, shares=[1_000_000] * SPLIT + [shares] * 40))
        up_to_date(warehouse, basis="raw")
        assert warehouse.con.sql("FROM price_action").fetchall() == []


# tests/test_labels.py


def test_an_outcome_across_a_split_is_what_a_holder_of_the_shares_had(tmp_path):
    whole = walk(80)
    with hand_store(tmp_path, LEVEL_DAYS) as warehouse:
        put(warehouse, "raw_price", split_rows())
        up_to_date(warehouse, basis="raw")
        returns = warehouse.con.sql("SELECT forward_return FROM label_daily ORDER BY as_of").pl()["forward_return"]
    assert returns.to_list() == pytest.approx([whole[n + 5] / whole[n] - 1 for n in range(75)], abs=1e-3)


# tests/test_fundamental.py


def test_a_corrected_filing_counts_from_the_night_that_could_know_it(tmp_path):
    yearly = filing(date(2022, 12, 31), 91, 70.0)
    corrected_on = datetime(2023, 6, 1)
    filings = versions_of(yearly, {"net_income_ytd": 90.0, "equity": 500.0, "available_at": corrected_on})
    found = fundamentals(tmp_path, filings=filings)
    assert found[date(2023, 5, 31)]["roe"] == pytest.approx(7)
    assert found[date(2023, 6, 1)]["roe"] == pytest.approx(18)


@pytest.mark.parametrize(("figure", "feature"), [("market_cap", "market_cap_log"), ("per", "per")])
def test_an_older_figure_that_comes_after_a_newer_one_changes_nothing(tmp_path, figure, feature):
    newer, older = on(YEARS[30], **{figure: 100.0}), on(YEARS[20], **{figure: 10.0})
    older["available_at"] = newer["available_at"] + timedelta(days=1)
    how = {"caps" if figure == "market_cap" else "printed": [newer, older]}
    found = fundamentals(tmp_path, **how)
    wanted = log10(100) if figure == "market_cap" else 100
    assert [found[day][feature] for day in YEARS[30:40]] == pytest.approx([wanted] * 10)


@pytest.mark.parametrize(("figure", "days"), [("market_cap", 370), ("per", 50)])
def test_a_figure_of_a_session_long_past_is_unknown_though_it_came_yesterday(tmp_path, figure, days):
    late = on(YEARS[5], **{figure: 100.0})
    known_on = next(day for day in YEARS if day >= YEARS[5] + timedelta(days=days))
    late["available_at"] = cutoff_at(known_on)
    found = fundamentals(tmp_path, **{"caps" if figure == "market_cap" else "printed": [late]})
    feature = "market_cap_log" if figure == "market_cap" else "per"
    assert {row[feature] for row in found.values()} == {None}


def test_a_market_cap_is_moved_by_two_prices_that_the_same_night_knew(tmp_path):
    """From the 20th night on the source shows the past at a tenth."""
    level = prices("000010", YEARS[:40], [100] * 20 + [10] * 20)
    known = cutoff_at(YEARS[20]) - timedelta(hours=1)
    restated = {name: 10.0 for name in ("open", "high", "low", "close")} | {"available_at": known}
    rows = [version for row in level[:20] for version in versions_of(row, restated)] + first_versions(level[20:])
    with hand_store(tmp_path, YEARS) as warehouse:
        put(warehouse, "raw_price", rows)
        put(warehouse, "raw_market_cap", [on(YEARS[5], market_cap=1e12)])
        found = compute_features(warehouse.con, YEARS[0], YEARS[39])
    assert found["market_cap_log"].to_list() == pytest.approx([None] * 5 + [12] * 35)


# tests/test_market_wide.py


def test_a_corrected_close_counts_from_the_night_that_could_know_it(tmp_path):
    friday = date(2024, 3, 1)
    first = series("VIX", {friday: 13}, US_CLOSE_IN_UTC).with_columns(version=pl.lit(1))
    later = first.with_columns(close=pl.lit(31.0), version=pl.lit(2), available_at=pl.lit(cutoff_at(WEEKS[2])))
    with hand_store(tmp_path, WEEKS) as warehouse:
        put(warehouse, "raw_macro", pl.concat([first, later]))
        put(warehouse, "raw_price", prices("000010", WEEKS, [100] * len(WEEKS)))
        found = compute_features(warehouse.con, WEEKS[0], WEEKS[4])
    assert found["vix"].to_list() == [13, 13, 31, 31, 31]


# tests/test_extra.py


def test_a_bar_and_the_year_before_it_are_at_hand_on_every_night(tmp_path):
    extra = ExtraFeature("return_1y", "C / C 252 bars ago", n_bars=253, expression=CLOSE / CLOSE.shift(252))
    closes = [1000 + n for n in range(len(DAYS))]
    with hand_store(tmp_path, DAYS) as warehouse:
        for days in (slice(0, 255), slice(255, 256), slice(256, 260)):
            put(warehouse, "raw_price", prices("000010", DAYS[days], closes[days]))
            rows = up_to_date(warehouse, extras=(extra,))
    wanted = [None] * 252 + [closes[n] / closes[n - 252] for n in range(252, 260)]
    assert rows["return_1y"].to_list() == pytest.approx(wanted)


def test_an_extra_feature_is_null_until_there_are_as_many_bars_as_it_reads(tmp_path):
    expression = CLOSE / CLOSE.rolling_max(20, min_samples=1)
    extra = ExtraFeature("high_20d", "C / highest of 20", n_bars=20, expression=expression)
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", prices("000010", DAYS[:25], range(1000, 1025)))
        rows = up_to_date(warehouse, extras=(extra,))
    assert rows["high_20d"].to_list() == [None] * 19 + [1.0] * 6
