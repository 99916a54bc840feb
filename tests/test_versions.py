"""Facts in versions: a correction stands beside what it corrects, and counts from when it could be known."""

from datetime import date, datetime, time, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from factories import FIRST, HYNIX, LAST, SAMSUNG, Frames, hand_made, sessions_between, until, with_cell, write_folder
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.features.knowledge import Knowledge
from kstock_batch.features.replay import compute_features
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.market.sessions import seoul_date, to_utc
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run

DAYS = sessions_between(FIRST, LAST)
SUNDAY = date(2024, 6, 9)
MONDAY = date(2024, 6, 10)  # the first night that can know what arrived on that Sunday
AT_FIRST, ON_SUNDAY = to_utc(date(2024, 6, 7), time(18, 35)), to_utc(SUNDAY, time(12, 0))
AT_LAST = datetime(2024, 7, 1)


class Nights:
    """A store that is fed folders at given instants, as nights would."""

    def __init__(self, root):
        self.root, self.settings = root, Settings.load(root, environ={})

    def ingest(self, frames: Frames, at: datetime, *, retroactive=False):
        """Ingest what of ``frames`` there can be at that instant."""
        folder = write_folder(self.root / f"{at:%Y%m%d%H%M}", until(frames, seoul_date(at)))
        with opened_run(self.settings, "ingest files", at=at) as run:
            return ingest_files(
                run.warehouse, folder, load_mapping(), settings=self.settings, run=run, retroactive=retroactive
            )

    def build(self, at=datetime(2024, 7, 1)):
        with opened_run(self.settings, "features", at=at) as run:
            done = bring_up_to_date(run.warehouse, self.settings, run)
            return done, run.warehouse.con.sql("FROM feature_daily ORDER BY ticker, as_of").pl()

    def asked(self, statement):
        with opened_run(self.settings, "test", at=datetime(2024, 7, 2)) as run:
            return run.warehouse.con.sql(statement).pl()

    def anew(self, knowledge=Knowledge()):  # noqa: B008  # frozen
        with opened_run(self.settings, "test", at=datetime(2024, 7, 2)) as run:
            return compute_features(run.warehouse.con, DAYS[0], DAYS[-1], knowledge=knowledge).sort("ticker", "as_of")


@pytest.fixture
def nights(tmp_path):
    return Nights(tmp_path)


def corrected(day: date, close: float) -> Frames:
    frames = hand_made()
    row = frames["prices"].with_row_index().filter((pl.col("ticker") == SAMSUNG) & (pl.col("date") == day))["index"]
    return {**frames, "prices": with_cell(frames["prices"], row.item(), close=close, high=200_000.0, low=1_000.0)}


WRONG_DAY = date(2024, 6, 3)


def test_a_correction_is_a_second_version_that_counts_from_its_arrival(nights):
    nights.ingest(hand_made(), AT_FIRST)
    nights.ingest(corrected(WRONG_DAY, 90_000.0), ON_SUNDAY)
    rows = nights.asked(
        f"SELECT version, close, available_at, retracted_at FROM raw_price WHERE ticker = '{SAMSUNG}'"
        f" AND session = DATE '{WRONG_DAY}' ORDER BY version"
    )
    assert rows["version"].to_list() == [1, 2]
    assert rows["close"].to_list() == [70_000 + DAYS.index(WRONG_DAY) + 1, 90_000]
    assert rows["available_at"].to_list() == [to_utc(WRONG_DAY, time(15, 45)), ON_SUNDAY]
    assert rows["retracted_at"].to_list() == [None, None]


def test_nights_before_a_correction_keep_what_they_knew_and_those_after_it_see_it(nights):
    nights.ingest(hand_made(), AT_FIRST)
    _, before = nights.build()
    nights.ingest(corrected(WRONG_DAY, 90_000.0), ON_SUNDAY)
    assert nights.build()[0].n_rows == 0
    nights.ingest(corrected(WRONG_DAY, 90_000.0), AT_LAST)
    done, after = nights.build()
    assert done.start == MONDAY
    assert_frame_equal(after.filter(pl.col("as_of") < MONDAY), before, check_exact=True)
    untouched = Nights(nights.root / "untouched")
    untouched.ingest(hand_made(), AT_LAST)
    _, plain = untouched.build()
    samsung = (pl.col("ticker") == SAMSUNG) & (pl.col("as_of") >= MONDAY)
    assert (after.filter(samsung)["rsi"] != plain.filter(samsung)["rsi"]).any()
    others = (pl.col("ticker") != SAMSUNG) | (pl.col("as_of") < MONDAY)
    assert_frame_equal(
        after.filter(others).drop("rs_percentile"), plain.filter(others).drop("rs_percentile"), check_exact=True
    )


def test_a_backfill_over_corrections_equals_the_nights_to_the_bit(nights):
    nights.ingest(hand_made(), to_utc(date(2024, 5, 3), time(18, 35)))
    nights.build()
    nights.ingest(corrected(date(2024, 4, 1), 99_000.0), ON_SUNDAY - timedelta(days=7))
    nights.build()
    nights.ingest(corrected(date(2024, 4, 1), 50_000.0), ON_SUNDAY)
    nights.build()
    nights.ingest(corrected(date(2024, 4, 1), 50_000.0), AT_LAST)
    _, nightly = nights.build()
    assert_frame_equal(nights.anew(), nightly, check_exact=True)
    with opened_run(nights.settings, "features", at=datetime(2024, 7, 3)) as run:
        run.warehouse.con.execute("INSERT INTO feature_due VALUES ('test', DATE '2024-01-01', 'x')")
    _, rebuilt = nights.build()
    assert_frame_equal(rebuilt, nightly, check_exact=True)


def test_a_retroactive_correction_counts_from_the_beginning_and_the_store_remembers_what_it_held(nights):
    nights.ingest(hand_made(), AT_FIRST)
    _, before = nights.build()
    nights.ingest(corrected(WRONG_DAY, 90_000.0), ON_SUNDAY, retroactive=True)
    done, after = nights.build()
    assert done.start == WRONG_DAY
    only = Nights(nights.root / "only")
    only.ingest(corrected(WRONG_DAY, 90_000.0), AT_FIRST)
    assert_frame_equal(after, only.build()[1], check_exact=True)
    held = nights.anew(Knowledge(stored_at=AT_FIRST))
    assert_frame_equal(held, before, check_exact=True)


def test_a_correction_can_be_made_retroactive_later(nights):
    nights.ingest(hand_made(), AT_FIRST)
    nights.ingest(corrected(WRONG_DAY, 90_000.0), ON_SUNDAY)
    nights.build()
    again = nights.ingest(corrected(WRONG_DAY, 90_000.0), ON_SUNDAY + timedelta(hours=1), retroactive=True)
    assert [u.table for u in again if u.n_changed] == ["raw_price"]
    assert nights.build()[0].start == WRONG_DAY
    standing = nights.asked(
        f"SELECT version, available_at FROM raw_price WHERE retracted_at IS NULL AND ticker = '{SAMSUNG}'"
        f" AND session = DATE '{WRONG_DAY}'"
    )
    assert standing.rows() == [(3, to_utc(WRONG_DAY, time(15, 45)))]


def test_the_same_correction_twice_changes_nothing(nights):
    nights.ingest(hand_made(), AT_FIRST)
    nights.ingest(corrected(WRONG_DAY, 90_000.0), ON_SUNDAY)
    again = nights.ingest(corrected(WRONG_DAY, 90_000.0), ON_SUNDAY + timedelta(hours=8))
    assert sum(u.n_new + u.n_changed for u in again) == 0


def test_outcomes_are_told_by_the_newest_version_of_a_price(nights):
    nights.ingest(hand_made(), AT_FIRST)
    nights.build()
    outcome = f"SELECT label_5d FROM label_daily WHERE ticker = '{SAMSUNG}' AND as_of = DATE '2024-05-27'"
    assert nights.asked(outcome).rows() == [(0,)]
    nights.ingest(corrected(WRONG_DAY, 90_000.0), ON_SUNDAY)
    done, _ = nights.build()
    assert (done.n_rows, nights.asked(outcome).rows()) == (0, [(1,)]), "no night changes, an outcome does"


def test_what_the_store_held_at_an_instant_is_what_it_computes_again(nights):
    nights.ingest(hand_made(), AT_FIRST)
    _, then = nights.build()
    nights.ingest(corrected(WRONG_DAY, 90_000.0), AT_LAST)
    nights.build()
    assert_frame_equal(nights.anew(Knowledge(stored_at=AT_FIRST)), then, check_exact=True)
    knew = nights.anew(Knowledge(known_at=AT_FIRST)).filter(pl.col("as_of") <= date(2024, 6, 7))
    assert_frame_equal(knew, then, check_exact=True)


def test_a_name_that_changes_its_sector_changes_only_nights_from_then_on(nights):
    frames = hand_made()
    nights.ingest(hand_made(), AT_FIRST)
    nights.build()
    moved = frames["listings"].with_columns(
        sector=pl.when(pl.col("ticker") == HYNIX).then(pl.lit("금융")).otherwise("sector")
    )
    nights.ingest({**frames, "listings": moved}, ON_SUNDAY)
    nights.ingest({**frames, "listings": moved}, AT_LAST)
    done, rows = nights.build()
    assert done.start == MONDAY
    hynix = rows.filter(pl.col("ticker") == HYNIX)
    codes = {side: hynix.filter(when)["sector_encoded"].unique().to_list()
             for side, when in (("before", pl.col("as_of") < MONDAY), ("from", pl.col("as_of") >= MONDAY))}  # fmt: skip
    assert codes == {"before": [7.0], "from": [3.0]}


# Splits between two ingests


def split_ten_to_one(frames: Frames, ticker: str) -> Frames:
    """Return the frames as an adjusted source shows them after a 10:1 split that is still to come."""
    is_split = pl.col("ticker") == ticker
    prices = frames["prices"].with_columns(
        *(pl.when(is_split).then((pl.col(name) / 10).round()).otherwise(name).alias(name)
          for name in ("open", "high", "low", "close")),
        volume=pl.when(is_split).then(pl.col("volume") * 10).otherwise("volume"),
    )  # fmt: skip
    return {**frames, "prices": prices}


def without_jump(rows: pl.DataFrame) -> bool:
    samsung = rows.filter(pl.col("ticker") == SAMSUNG)
    return bool((samsung["atr_pct"].drop_nulls() < 1).all() and (samsung["bb_bandwidth"].drop_nulls() < 0.01).all())


def test_a_source_that_restates_a_split_and_sends_only_recent_rows_leaves_no_jump(nights):
    nights.ingest(hand_made(), AT_FIRST)
    _, before = nights.build()
    recent = split_ten_to_one(hand_made(), SAMSUNG)
    recent["prices"] = recent["prices"].filter(pl.col("date") >= date(2024, 5, 20))
    (prices,) = (u for u in nights.ingest(recent, ON_SUNDAY) if u.restated)
    (found,) = prices.restated
    n_older = sum(day < date(2024, 5, 20) for day in DAYS)
    assert (found.ticker, found.n_rescaled) == (SAMSUNG, n_older)
    assert found.ratio == pytest.approx(0.1, rel=1e-4)
    assert nights.asked("SELECT ticker, n_rescaled FROM price_restatement").rows() == [(SAMSUNG, n_older)]
    nights.ingest(split_ten_to_one(hand_made(), SAMSUNG), AT_LAST)
    _, after = nights.build()
    assert without_jump(after)
    assert_frame_equal(after.filter(pl.col("as_of") < MONDAY), before, check_exact=True)
    assert_frame_equal(nights.anew(), after, check_exact=True)


def test_labels_do_not_see_a_restated_split(nights):
    nights.ingest(hand_made(), AT_FIRST)
    nights.build()
    recent = split_ten_to_one(hand_made(), SAMSUNG)
    recent["prices"] = recent["prices"].filter(pl.col("date") >= date(2024, 5, 20))
    nights.ingest(recent, ON_SUNDAY)
    nights.ingest(split_ten_to_one(hand_made(), SAMSUNG), AT_LAST)
    nights.build()
    returns = nights.asked(f"SELECT forward_return FROM label_daily WHERE ticker = '{SAMSUNG}'")["forward_return"]
    assert returns.abs().max() < 0.002


def test_three_wrong_rows_are_corrections_not_a_restatement(nights):
    nights.ingest(hand_made(), AT_FIRST)
    frames = hand_made()
    wrong = pl.col("date").is_in(DAYS[50:53]) & (pl.col("ticker") == SAMSUNG)
    prices = frames["prices"].with_columns(close=pl.when(wrong).then(pl.col("close") + 5).otherwise("close"))
    again = nights.ingest({**frames, "prices": prices}, ON_SUNDAY)
    assert [u.restated for u in again if u.restated] == []
    assert sum(u.n_changed for u in again) == 3


def restated_from(day: date, frames: Frames | None = None) -> Frames:
    """Return what an adjusted source sends after a split: rows from ``day`` on, all at the new level."""
    sent = split_ten_to_one(frames or hand_made(), SAMSUNG)
    sent["prices"] = sent["prices"].filter(pl.col("date") >= day)
    return sent


EVENING = to_utc(MONDAY, time(18, 35))  # after the night's cutoff, as a nightly job runs


@pytest.mark.parametrize("sent_from", [date(2024, 5, 20), date(2024, 6, 5), DAYS[0]], ids=["weeks", "two rows", "all"])
def test_the_night_on_which_a_split_arrives_sees_one_level(nights, sent_from):
    nights.ingest(hand_made(), AT_FIRST)
    _, before = nights.build()
    nights.ingest(restated_from(sent_from), EVENING)
    done, after = nights.build()
    assert done.start == MONDAY
    assert without_jump(after)
    assert after.filter((pl.col("ticker") == SAMSUNG) & (pl.col("as_of") == MONDAY))["close"].item() < 10_000
    assert_frame_equal(after.filter(pl.col("as_of") < MONDAY), before, check_exact=True)
    assert_frame_equal(nights.anew(), after, check_exact=True)


def test_sessions_that_are_caught_up_with_a_split_see_one_level(nights):
    nights.ingest(hand_made(), AT_FIRST)
    nights.build()
    nights.ingest(restated_from(date(2024, 5, 20)), AT_LAST)
    _, after = nights.build()
    assert without_jump(after)
    assert_frame_equal(nights.anew(), after, check_exact=True)


def test_a_row_that_is_corrected_besides_does_not_hide_a_split(nights):
    nights.ingest(hand_made(), AT_FIRST)
    sent = restated_from(date(2024, 5, 20))
    row = sent["prices"].with_row_index().filter(
        (pl.col("ticker") == SAMSUNG) & (pl.col("date") == date(2024, 5, 27))
    )["index"].item()  # fmt: skip
    sent["prices"] = with_cell(sent["prices"], row, close=sent["prices"]["high"][row])
    (prices,) = (u for u in nights.ingest(sent, EVENING) if u.restated)
    assert prices.restated[0].ratio == pytest.approx(0.1, rel=1e-3)
    assert without_jump(nights.build()[1])


def test_an_older_vintage_that_ends_earlier_brings_the_rows_after_it_to_its_level(nights):
    nights.ingest(split_ten_to_one(hand_made(), SAMSUNG), AT_LAST)
    frames = hand_made()
    old = {**frames, "prices": frames["prices"].filter(pl.col("date") <= date(2024, 6, 7))}
    (prices,) = (u for u in nights.ingest(old, AT_LAST + timedelta(days=1)) if u.restated)
    assert prices.restated[0].n_rescaled == sum(day > date(2024, 6, 7) for day in DAYS)
    levels = nights.asked(f"SELECT min(close) AS low, max(close) AS high FROM price WHERE ticker = '{SAMSUNG}'").row(0)
    assert levels[1] / levels[0] < 1.01


def test_a_source_that_scales_prices_only_has_its_volumes_left_alone(nights):
    nights.ingest(hand_made(), AT_FIRST)
    sent = restated_from(date(2024, 5, 20))
    volumes = hand_made()["prices"].filter(pl.col("date") >= date(2024, 5, 20))["volume"]
    sent["prices"] = sent["prices"].with_columns(volume=volumes)
    nights.ingest(sent, EVENING)
    oldest = nights.asked(f"SELECT volume FROM price WHERE ticker = '{SAMSUNG}' AND session = DATE '{DAYS[0]}'")
    assert oldest["volume"].to_list() == [1_000]


@pytest.mark.parametrize("n_rows", [2, 4, 9])
def test_a_few_prices_that_are_a_little_off_are_corrections(nights, n_rows):
    nights.ingest(hand_made(), AT_FIRST)
    frames = hand_made()
    sent = frames["prices"].filter(pl.col("date").is_in(sessions_between(FIRST, date(2024, 6, 7))[-n_rows:]))
    off = pl.when(pl.col("ticker") == SAMSUNG).then(pl.col("close") + 15).otherwise("close")
    again = nights.ingest({**frames, "prices": sent.with_columns(close=off)}, ON_SUNDAY)
    assert [u.restated for u in again if u.restated] == []


def test_a_retroactive_split_after_one_that_was_dated_by_arrival_loses_no_session(nights):
    nights.ingest(hand_made(), AT_FIRST)
    nights.ingest(restated_from(date(2024, 5, 20)), ON_SUNDAY)
    nights.ingest(split_ten_to_one(restated_from(date(2024, 6, 3)), SAMSUNG), ON_SUNDAY + timedelta(hours=1),
                  retroactive=True)  # fmt: skip
    _, rows = nights.build()
    samsung = rows.filter(pl.col("ticker") == SAMSUNG)
    assert samsung.height == sum(day <= date(2024, 6, 7) for day in DAYS)
    assert without_jump(rows)
    assert_frame_equal(nights.anew(), rows, check_exact=True)


def filings(**changed) -> Frames:
    frames = hand_made()
    return {**frames, "financials": with_cell(frames["financials"], 0, **changed)}


def test_a_corrected_filing_that_is_dated_anew_leaves_the_first_one_to_the_nights_that_knew_it(nights):
    nights.ingest(hand_made(), AT_FIRST)
    nights.ingest(filings(equity=300e12, available_from=date(2024, 5, 13)), AT_FIRST + timedelta(minutes=1))
    nights.build()
    nights.ingest(filings(equity=300e12, available_from=date(2024, 5, 20)), AT_FIRST + timedelta(minutes=2))
    _, rows = nights.build()
    roe = dict(rows.filter(pl.col("ticker") == SAMSUNG).select("as_of", "roe").iter_rows())
    for day in sessions_between(date(2024, 3, 12), date(2024, 6, 7)):
        equity = 363e12 if day < date(2024, 5, 20) else 300e12
        assert roe[day] == pytest.approx(100 * 15e12 / equity), day
    assert_frame_equal(nights.anew(), rows, check_exact=True)


def test_correcting_an_old_filing_does_not_make_it_young(nights):
    old = filings(period_end=date(2022, 12, 31), available_from=date(2023, 3, 20))
    nights.ingest(old, AT_FIRST)
    nights.ingest({**old, "financials": with_cell(old["financials"], 0, equity=300e12)}, ON_SUNDAY)
    nights.ingest({**old, "financials": with_cell(old["financials"], 0, equity=300e12)}, AT_LAST)
    _, rows = nights.build()
    roe = rows.filter((pl.col("ticker") == SAMSUNG) & (pl.col("as_of") > date(2024, 4, 24)))["roe"]
    assert rows["as_of"].max() == LAST
    assert roe.null_count() == len(roe)


def test_a_delisting_that_is_found_to_be_later_is_told_anew(nights):
    frames = hand_made()
    gone = pl.col("ticker") == HYNIX
    prices = frames["prices"].filter(~gone | (pl.col("date") <= date(2024, 5, 31)))

    def seen(day: date) -> Frames:
        last_seen = pl.when(gone).then(pl.lit(day))
        return {**frames, "prices": prices, "listings": frames["listings"].with_columns(last_seen=last_seen)}

    nights.ingest(seen(date(2024, 5, 31)), AT_LAST)
    nights.build()
    nights.ingest(seen(date(2024, 6, 14)), AT_LAST + timedelta(days=1))
    nights.build()
    delisted = nights.asked(f"SELECT as_of FROM label_daily WHERE ticker = '{HYNIX}' AND is_delisted")["as_of"]
    assert delisted.to_list() == []


def test_a_change_of_what_no_feature_reads_begins_nothing_anew(nights):
    nights.ingest(hand_made(), AT_FIRST)
    frames = hand_made()
    shares = frames["prices"].with_columns(shares_outstanding=pl.col("shares_outstanding") + 1)
    nights.ingest({**frames, "prices": shares}, ON_SUNDAY)
    from kstock_batch.store.queries import Query

    with opened_run(nights.settings, "test", at=AT_LAST) as run:
        bounds = {"checkpoint": FIRST, "end": date(2025, 1, 1), **Knowledge().params}
        for basis, n in (("adjusted", 0), ("raw", 0)):
            assert Query.load("features/price_event").frame(run.warehouse.con, basis=basis, **bounds).height == n
