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
