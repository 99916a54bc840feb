"""The night's ingest: who is asked for what, what is stored of it, what is kept out, and nothing is asked twice."""

from __future__ import annotations

from datetime import date, time, timedelta

import polars as pl
import pytest

from factories import content, copy_root, done, run, sentence, store_rows
from kstock_batch.errors import (
    BudgetSpent,
    ConfigError,
    CredentialRefused,
    DataNotReady,
    SourceBlocked,
    SourceChanged,
    SourceUnreachable,
)
from kstock_batch.ingest.sources.live import Need
from live_night import (
    ANY,
    DAYS,
    KOSDAQ,
    MONDAY,
    N_STOCKS,
    PRICE,
    TABLES,
    TICKERS,
    WHOLE,
    Told,
    evening,
    half_a_market,
    night,
    nothing,
    prepared,
    with_cell,
)

EVERYTHING = dict.fromkeys(("price", "market_cap", "listing", "valuation", "flow", "short_balance"), "day") | {
    "macro": "range"
}
FRIDAY, TUESDAY, WEDNESDAY = DAYS[ANY - 1], DAYS[ANY + 1], DAYS[ANY + 2]
SATURDAY = FRIDAY + timedelta(days=1)
BLOCKED = SourceBlocked("krx has shut us out until 2026-06-16 18:30", fix="wait")
DOWN = SourceUnreachable("krx gave no answer in 4 attempts", fix="try later")
CHANGED = SourceChanged("krx answers without TDD_CLSPRC", fix="update")
REFUSED = CredentialRefused("krx does not accept the key", fix="get another")
SPENT = BudgetSpent("today's 10,000 calls of krx are used up", fix="go on tomorrow")


@pytest.fixture(scope="module")
def _empty(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def root(_empty, tmp_path):
    """A store with a calendar and nothing else."""
    return copy_root(_empty, tmp_path / "root")


@pytest.fixture(scope="module")
def _friday(_empty, tmp_path_factory):
    root = copy_root(_empty, tmp_path_factory.mktemp("friday") / "root")
    night(root, Told("krx", WHOLE), day=FRIDAY)
    return root


@pytest.fixture
def friday(_friday, tmp_path):
    """A store that had one night, on the Friday before MONDAY."""
    return copy_root(_friday, tmp_path / "root")


def stored(root, table="raw_price", day=MONDAY):
    """Source and number of rows of a session."""
    return store_rows(root, f"SELECT source, count(*) FROM {table} WHERE session = '{day}' GROUP BY source ORDER BY 1")


def ledger(root, day=MONDAY, dataset="price"):
    return store_rows(
        root,
        f"SELECT source, status, n_rows, n_calls, why FROM ingest_batch"
        f" WHERE event_date = '{day}' AND dataset = '{dataset}' ORDER BY finished_at, source",
    )


# One source


def test_a_night_stores_every_dataset_with_its_source_and_a_batch_of_its_own(root):
    krx = Told("krx", EVERYTHING)
    done = night(root, krx)
    assert stored(root) == [("krx", N_STOCKS)]
    asked = {batch.dataset: (batch.event_date, batch.status, batch.n_rows) for batch in done.batches}
    assert asked["price"] == (MONDAY, "done", N_STOCKS)
    assert asked["macro"][:2] == (MONDAY, "done")
    assert asked.keys() == EVERYTHING.keys() - {"short_balance"}  # of a store this new no session is two sessions old
    assert done.n_calls == len(done.batches)
    assert store_rows(root, "SELECT count(*) FROM ingest_batch WHERE status = 'done'")[0][0] == len(done.batches)


def test_a_second_run_of_a_night_asks_nobody(root):
    krx = Told("krx", EVERYTHING)
    night(root, krx)
    before = content(root, (*TABLES, "ingest_batch"))
    again = night(root, krx)
    assert (again.n_calls - len(krx.asked), again.batches, again.missing) == (0, [], {})
    assert content(root, (*TABLES, "ingest_batch")) == before


def test_short_balances_are_asked_for_two_sessions_later(root):
    krx = Told("krx", {**WHOLE, "short_balance": "day"})
    for day in DAYS[ANY : ANY + 4]:
        night(root, krx, day=day)
    assert krx.days_asked("short_balance") == [MONDAY, TUESDAY]
    known = store_rows(root, "SELECT DISTINCT session, available_at FROM raw_short_balance ORDER BY 1")
    assert known == [(MONDAY, evening(WEDNESDAY, time(18, 10))), (TUESDAY, evening(DAYS[ANY + 3], time(18, 10)))]


# When


def test_before_their_time_datasets_are_provisional_and_not_asked_for(root):
    krx = Told("krx", EVERYTHING)
    done = night(root, krx, at=evening(MONDAY, time(17, 0)))
    assert {name for name, _ in krx.asked} == {"price", "market_cap", "listing", "macro"}
    assert done.provisional == {"valuation": "18:10", "flow": "18:10"}
    assert "flow is provisional until 18:10 in Seoul: not asked for" in done.remarks()
    done.require_complete()


def test_before_prices_are_final_the_night_is_that_of_the_session_before(friday):
    done = night(friday, Told("krx", WHOLE), at=evening(MONDAY, time(15, 44)))
    assert (done.as_of, done.batches) == (FRIDAY, [])


def test_a_session_named_before_its_prices_are_final_is_refused_with_the_time(root):
    with pytest.raises(DataNotReady) as refused:
        night(root, Told("krx", WHOLE), at=evening(MONDAY, time(15, 44)), as_of=MONDAY)
    assert "the prices of 2026-06-15 are provisional until 2026-06-15 15:45 in Seoul" in str(refused.value)


def test_a_closed_day_is_skipped_and_nobody_is_asked(friday):
    krx = Told("krx", WHOLE)
    done = night(friday, krx, as_of=SATURDAY, day=SATURDAY)
    assert (done.is_closed, krx.asked) == (True, [])
    assert done.summary == "2026-06-13 was no session of the exchange: 0 new rows of other days"
    done.require_complete()


@pytest.mark.parametrize("day", [date(2999, 1, 4), date(1900, 1, 2)])
def test_a_day_beyond_the_calendar_is_not_called_a_day_off(day, friday):
    krx = Told("krx", WHOLE)
    with pytest.raises(DataNotReady) as refused:
        night(friday, krx, as_of=day)
    assert f"nobody knows whether {day} is a session: the calendar reaches from" in str(refused.value)
    assert krx.asked == []


def test_a_close_abroad_whose_day_is_not_over_is_not_stored(root):
    night(root, Told("krx", {**WHOLE, "macro": "range"}), at=evening(TUESDAY, time(2, 0)))
    newest = dict(store_rows(root, "SELECT series, max(event_date) FROM raw_macro GROUP BY series"))
    assert newest == {"VIX": FRIDAY, "SP500": FRIDAY, "USDKRW": FRIDAY}


# Fallbacks


@pytest.mark.parametrize("odd", [BLOCKED, DOWN, CHANGED, REFUSED, SPENT, nothing, half_a_market])
def test_what_the_first_source_cannot_give_comes_from_the_next_with_its_name_in_every_row(friday, odd):
    krx, pykrx = Told("krx", PRICE).on("price", MONDAY, odd), Told("pykrx", PRICE)
    night(friday, krx, pykrx)
    assert stored(friday) == [("pykrx", N_STOCKS)]
    (one, other) = ledger(friday)
    status = {nothing: "empty", half_a_market: "partial"}.get(odd, "failed")
    assert (one[0], one[1], one[2]) == ("krx", status, 0)
    assert other == ("pykrx", "done", N_STOCKS, 1, None)


def test_the_ledger_says_why_a_source_gave_nothing(friday):
    pykrx = Told("pykrx", PRICE)
    night(friday, Told("krx", PRICE).on("price", MONDAY, BLOCKED), pykrx)
    assert ledger(friday)[0] == ("krx", "failed", 0, 1, BLOCKED.what)


def test_a_source_that_has_shut_us_out_is_asked_once_a_night(friday):
    krx = Told("krx", EVERYTHING)
    for dataset in EVERYTHING:
        krx.on(dataset, None, BLOCKED)
    done = night(friday, krx, Told("pykrx", EVERYTHING))
    assert len(krx.asked) == 1
    of_krx = [batch for batch in done.batches if batch.source == "krx"]
    assert {batch.why for batch in of_krx} == {BLOCKED.what}
    assert sum(batch.n_calls for batch in of_krx) == 1


@pytest.mark.parametrize(("odd", "times"), [(DOWN, 2), (REFUSED, 2), (SPENT, 1)])
def test_a_source_that_fails_again_and_again_is_given_up_for_the_night(friday, odd, times):
    krx = Told("krx", EVERYTHING)
    for dataset in EVERYTHING:
        krx.on(dataset, None, odd)
    night(friday, krx, Told("pykrx", EVERYTHING))
    assert len(krx.asked) == times


def test_a_key_that_is_refused_for_one_dataset_serves_for_the_others(friday):
    krx = Told("krx", WHOLE).on("listing", None, REFUSED)
    night(friday, krx, Told("pykrx", WHOLE))
    assert stored(friday) == [("krx", N_STOCKS)]
    assert [row[:2] for row in ledger(friday, dataset="listing")] == [("krx", "failed"), ("pykrx", "done")]


def test_rows_that_break_the_contract_are_refused_whole_and_the_next_source_is_asked(friday):
    bad = with_cell(TICKERS[3], high=1.0)
    night(friday, Told("krx", PRICE).on("price", MONDAY, bad), Told("pykrx", PRICE))
    assert stored(friday) == [("pykrx", N_STOCKS)]
    why = ledger(friday)[0][4]
    assert why.startswith("krx: price of 2026-06-15: 1 of 40 rows break a rule of raw_price, most often high_below_low")
    assert store_rows(friday, "SELECT count(*) FROM quarantine") == [(0,)]


def test_a_few_bad_rows_are_set_aside_and_counted(friday):
    bad = with_cell(TICKERS[3], high=1.0)
    done = night(friday, Told("krx", PRICE).on("price", MONDAY, bad), max_rejected_share=0.05)
    assert stored(friday) == [("krx", N_STOCKS - 1)]
    assert store_rows(friday, "SELECT source, rule FROM quarantine") == [("krx", "high_below_low")]
    assert "1 rejected (see table quarantine)" in done.summary


def test_a_suspended_stock_counts_at_its_last_close(friday):
    halted = with_cell(TICKERS[3], open=0.0, high=0.0, low=0.0, volume=0)
    night(friday, Told("krx", PRICE).on("price", MONDAY, halted))
    found = store_rows(
        friday,
        f"SELECT open = close, high = close FROM raw_price WHERE ticker = '{TICKERS[3]}' AND session = '{MONDAY}'",
    )
    assert found == [(True, True)]


def test_answers_of_another_day_are_refused(friday):
    yesterday = pl.lit(FRIDAY).alias("session")
    night(friday, Told("krx", PRICE).on("price", MONDAY, lambda rows: rows.with_columns(yesterday)), Told("fdr", PRICE))
    assert stored(friday) == [("fdr", N_STOCKS)]
    assert ledger(friday)[0][4] == "answers with rows of 2026-06-12 when asked for 2026-06-15"


def test_yesterdays_prices_under_todays_date_are_refused(friday):
    def stale(rows):
        from live_night import told

        return told("price", FRIDAY, "krx").with_columns(pl.lit(MONDAY).alias("session"), rows["available_at"])

    night(friday, Told("krx", PRICE).on("price", MONDAY, stale), Told("fdr", PRICE))
    assert stored(friday) == [("fdr", N_STOCKS)]
    assert ledger(friday)[0][4] == "repeats 2026-06-12: 40 of 40 closes and volumes are the same"


def test_a_day_on_which_nothing_traded_is_no_session(friday):
    idle = pl.col("volume") * 0
    done = night(friday, Told("krx", PRICE).on("price", MONDAY, lambda rows: rows.with_columns(idle)))
    assert stored(friday) == []
    assert ledger(friday)[0][1::3] == ("empty", "tells of a day on which nothing traded")
    assert done.missing == {"price": "krx tells of a day on which nothing traded"}


# Half a market


def test_half_a_market_of_every_source_is_stored_by_none_and_the_night_says_what_is_missing(friday):
    krx = Told("krx", WHOLE).on("price", MONDAY, half_a_market)
    pykrx = Told("pykrx", PRICE).on("price", MONDAY, DOWN)
    done = night(friday, krx, pykrx)
    assert stored(friday) == []
    with pytest.raises(DataNotReady) as missing:
        done.require_complete()
    assert str(missing.value).splitlines()[0] == (
        "2026-06-15 lacks price (krx gave only 0 KOSDAQ names of the usual 20; pykrx krx gave no answer in 4 attempts)"
    )


def test_a_name_or_two_less_than_usual_is_a_whole_market(friday):
    fewer = lambda rows: rows.filter(pl.col("ticker") != KOSDAQ[0])  # noqa: E731
    night(friday, Told("krx", PRICE).on("price", MONDAY, fewer))
    assert stored(friday) == [("krx", N_STOCKS - 1)]


@pytest.mark.parametrize("dataset", ["market_cap", "flow", "valuation", "listing"])
def test_half_a_market_is_kept_out_of_a_table_that_was_empty_before(friday, dataset):
    krx = Told("krx", {dataset: "day"}).on(dataset, MONDAY, half_a_market)
    night(friday, krx)
    assert ledger(friday, dataset=dataset)[0][1::3] == ("partial", "gave only 0 KOSDAQ names of the usual 20")


def test_the_first_listing_of_all_must_have_both_markets_and_comes_before_the_prices(root):
    krx = Told("krx", WHOLE).on("listing", MONDAY, half_a_market)
    night(root, krx)
    assert [name for name, _ in krx.asked] == ["listing", "price"]
    assert ledger(root, dataset="listing")[0][1::3] == ("partial", "gave only 0 KOSDAQ names of the usual 1")


# Nights that were missed


def test_a_night_asks_for_what_earlier_nights_did_not_get_oldest_first(friday):
    krx = Told("krx", WHOLE)
    night(friday, krx.on("price", None, DOWN), day=MONDAY)
    krx.heal()
    krx.asked.clear()
    done = night(friday, krx, day=WEDNESDAY)
    assert krx.days_asked("price") == [MONDAY, TUESDAY, WEDNESDAY]
    assert krx.days_asked("listing") == [TUESDAY, WEDNESDAY]
    assert [stored(friday, day=day) for day in DAYS[ANY : ANY + 3]] == [[("krx", N_STOCKS)]] * 3
    assert done.missing == {}


def test_a_new_store_does_not_go_back_to_before_its_first_night(root):
    krx = Told("krx", WHOLE)
    night(root, krx)
    assert {day for _, day in krx.asked} == {MONDAY}


def test_a_night_goes_back_no_further_than_the_setting_and_names_the_gap(friday):
    krx = Told("krx", WHOLE)
    last = DAYS[ANY + 9]
    done = night(friday, krx, day=last, catch_up_sessions=3)
    assert krx.days_asked("price") == list(DAYS[ANY + 6 : ANY + 10])
    assert done.gap == (MONDAY, DAYS[ANY + 5])
    (told,) = [remark for remark in done.remarks() if "backfill" in remark]
    assert f"run `kstock-batch ingest backfill --from {MONDAY} --to {DAYS[ANY + 5]}`" in told


def test_going_back_leaves_half_of_the_nights_calls_for_the_session_itself(friday):
    krx = Told("krx", WHOLE)
    last = DAYS[ANY + 9]
    done = night(friday, krx, day=last, calls_a_night=8)
    assert stored(friday, day=last) == [("krx", N_STOCKS)]
    assert (done.n_calls, done.n_undone) == (6, 14)
    assert "14 sessions of datasets of earlier nights are left for the next ones" in done.remarks()


def test_what_was_late_and_what_came_in_time_make_the_same_store(friday, tmp_path):
    other = copy_root(friday, tmp_path / "other")
    clean, late = Told("krx", EVERYTHING), Told("krx", EVERYTHING)
    for day in DAYS[ANY : ANY + 4]:
        night(other, clean, day=day)
        for dataset in ("price", "listing", "flow") if day in (MONDAY, WEDNESDAY) else ():
            late.on(dataset, day, DOWN)
        night(friday, late, day=day)
        late.heal()
    night(other, clean, day=DAYS[ANY + 4])
    night(friday, late, day=DAYS[ANY + 4])
    assert content(friday, TABLES, without="ingested_at") == content(other, TABLES, without="ingested_at")


def test_series_are_asked_for_once_for_all_days_that_are_due_and_some_before(friday):
    krx, fred = Told("krx", WHOLE), Told("fred", {"macro": "range"})
    fred.on("macro", MONDAY, DOWN)
    night(friday, krx, fred)
    night(friday, krx, fred, day=WEDNESDAY)
    # The store knows of Friday, of which nobody had asked fred.
    assert fred.asked == [("macro", MONDAY), ("macro", WEDNESDAY)]
    assert fred.starts[-1] == ("macro", FRIDAY - timedelta(days=10))
    done = store_rows(
        friday, "SELECT event_date FROM ingest_batch WHERE dataset = 'macro' AND status = 'done' ORDER BY 1"
    )
    assert [day for (day,) in done] == [FRIDAY, MONDAY, TUESDAY, WEDNESDAY]


def test_series_that_end_too_early_are_stored_and_completed_by_the_next_source(friday):
    week_late = lambda rows: rows.filter((pl.col("series") != "USDKRW") | (pl.col("event_date") < date(2026, 6, 8)))  # noqa: E731
    fred, yahoo = Told("fred", {"macro": "range"}).on("macro", None, week_late), Told("yahoo", {"macro": "range"})
    night(friday, Told("krx", WHOLE), fred, yahoo)
    first, second = ledger(friday, dataset="macro")
    assert (first[0], first[1], first[4]) == ("fred", "partial", "has nothing new of USDKRW")
    assert second[:2] == ("yahoo", "done")
    by_source = store_rows(
        friday,
        "SELECT series, source FROM raw_macro"
        " QUALIFY event_date = max(event_date) OVER (PARTITION BY series) ORDER BY series",
    )
    assert by_source == [("SP500", "fred"), ("USDKRW", "yahoo"), ("VIX", "fred")]


def test_a_day_without_filings_or_designations_is_whole_and_not_missing(friday):
    dart, fdr = Told("dart", {"financial": "range"}), Told("fdr", {"designation": "range"})
    for source, dataset in ((dart, "financial"), (fdr, "designation")):
        source.on(dataset, None, nothing)
    done = night(friday, Told("krx", WHOLE), dart, fdr)
    assert done.missing == {}
    assert {batch.status for batch in done.batches if batch.source in ("dart", "fdr")} == {"done"}
    night(friday, Told("krx", WHOLE), dart, fdr)
    assert (len(dart.asked), len(fdr.asked)) == (1, 1)


def test_every_designation_in_force_is_asked_for(friday):
    fdr = Told("fdr", {"designation": "range"}).on("designation", None, nothing)
    night(friday, Told("krx", WHOLE), fdr)
    assert fdr.starts == [("designation", fdr.starts[0][1])]
    assert fdr.starts[0][1] < date(2010, 1, 1)


def test_a_listing_is_completed_by_one_more_source_the_same_night(friday):
    fdr = Told("fdr", {"listing": "day"}).on("listing", None, lambda rows: rows.with_columns(industry=pl.lit("메모리")))
    krx = Told("krx", WHOLE)
    night(friday, krx, fdr)
    assert fdr.days_asked("listing") == [MONDAY, FRIDAY]
    assert store_rows(friday, "SELECT DISTINCT industry, name LIKE '종목%' FROM listing") == [("메모리", True)]


# Precedence


def test_a_source_further_down_does_not_change_what_one_before_it_told(friday):
    krx, pykrx = Told("krx", WHOLE).on("listing", MONDAY, DOWN), Told("pykrx", WHOLE)
    pykrx.on("listing", None, lambda rows: rows.with_columns(name=pl.col("name") + "보통주", sector=pl.lit("기계")))
    night(friday, krx, pykrx)
    assert store_rows(friday, "SELECT DISTINCT source, version, sector FROM raw_listing") == [("krx", 1, "반도체")]


def test_a_source_further_down_fills_what_one_before_it_leaves_blank_and_keeps_it_filled(friday):
    blank = lambda rows: rows.with_columns(industry=pl.lit(None, pl.String))  # noqa: E731
    krx, fdr = Told("krx", WHOLE).on("listing", None, blank), Told("fdr", WHOLE)
    fdr.on("listing", None, lambda rows: rows.with_columns(industry=pl.lit("메모리")))
    krx.on("listing", MONDAY, DOWN)
    night(friday, krx, fdr)
    night(friday, krx, fdr, day=TUESDAY)
    assert store_rows(
        friday, "SELECT DISTINCT industry, source FROM listing JOIN raw_listing USING (ticker, industry)"
    ) == [("메모리", "krx")]
    assert store_rows(friday, "SELECT max(version) FROM raw_listing") == [(2,)]


def test_a_listing_that_is_told_again_every_night_stays_one_version(friday):
    krx = Told("krx", WHOLE)
    for day in DAYS[ANY : ANY + 3]:
        night(friday, krx, day=day)
    assert store_rows(friday, "SELECT count(*), max(version), min(available_at) FROM raw_listing") == [
        (N_STOCKS, 1, evening(FRIDAY, time(15, 45)))
    ]


def test_a_listing_that_comes_late_counts_from_the_evening_it_is_of(friday):
    """The list of Monday came after that of Tuesday, and a name was new on Monday."""
    krx = Told("krx", WHOLE)
    other = lambda rows: rows.with_columns(name=pl.lit("새 이름"))  # noqa: E731
    krx.on("listing", MONDAY, DOWN).on("listing", TUESDAY, other)
    night(friday, krx)
    night(friday, krx, day=TUESDAY, catch_up_sessions=0)
    krx.on("listing", MONDAY, other)
    night(friday, krx, day=TUESDAY)
    known = store_rows(
        friday, "SELECT DISTINCT available_at FROM raw_listing WHERE retracted_at IS NULL AND name = '새 이름'"
    )
    assert known == [(evening(MONDAY, time(15, 45)),)]


def test_a_late_list_of_a_source_further_down_does_not_date_back_what_it_does_not_say(friday):
    """It still lists a stock that has left since, and so says nothing about the leaving."""
    krx, fdr = Told("krx", WHOLE).on("listing", MONDAY, DOWN), Told("fdr", WHOLE).on("listing", MONDAY, DOWN)
    krx.on("listing", TUESDAY, gone(TICKERS[5])).on("price", TUESDAY, gone(TICKERS[5]))
    night(friday, krx)
    night(friday, krx, fdr, day=TUESDAY, catch_up_sessions=0)
    fdr.heal()
    night(friday, krx, fdr, day=TUESDAY)
    left = store_rows(friday, "SELECT last_seen, available_at FROM raw_listing WHERE last_seen IS NOT NULL")
    assert left == [(MONDAY, evening(TUESDAY, time(15, 45)))]


# Who has left


def gone(*tickers):
    return lambda rows: rows.filter(~pl.col("ticker").is_in(tickers))


def test_a_stock_that_is_neither_listed_nor_traded_any_more_has_left_after_its_last_session(friday):
    krx = Told("krx", WHOLE).on("listing", MONDAY, gone(TICKERS[5])).on("price", MONDAY, gone(TICKERS[5]))
    night(friday, krx)
    left = store_rows(friday, "SELECT ticker, last_seen, available_at FROM raw_listing WHERE last_seen IS NOT NULL")
    assert left == [(TICKERS[5], FRIDAY, evening(MONDAY, time(15, 45)))]
    assert store_rows(friday, f"SELECT name FROM listing WHERE ticker = '{TICKERS[5]}'") == [("종목5",)]


def test_a_stock_that_still_trades_has_not_left_whatever_the_list_says(friday):
    night(friday, Told("krx", WHOLE).on("listing", MONDAY, gone(TICKERS[5])))
    assert store_rows(friday, "SELECT count(*) FROM raw_listing WHERE last_seen IS NOT NULL") == [(0,)]


def test_a_list_with_a_hole_delists_nobody(friday):
    krx = Told("krx", WHOLE)
    for dataset in WHOLE:
        krx.on(dataset, MONDAY, gone(*KOSDAQ[:6]))
    night(friday, krx, min_session_share=0.5)
    assert store_rows(friday, "SELECT count(*) FROM raw_listing WHERE last_seen IS NOT NULL") == [(0,)]


def test_a_stock_that_comes_back_is_listed_again(friday):
    krx = Told("krx", WHOLE).on("listing", MONDAY, gone(TICKERS[5])).on("price", MONDAY, gone(TICKERS[5]))
    night(friday, krx)
    night(friday, krx, day=TUESDAY)
    assert store_rows(friday, f"SELECT last_seen FROM listing WHERE ticker = '{TICKERS[5]}'") == [(None,)]


# What cannot be asked


def test_a_source_that_is_not_ready_is_not_asked(friday):
    krx = Told("krx", WHOLE, needs=[Need("KSTOCK_KRX_KEY is not set", "get one")])
    night(friday, krx, Told("pykrx", WHOLE))
    assert (krx.asked, stored(friday)) == ([], [("pykrx", N_STOCKS)])


def test_no_source_that_is_ready_is_one_sentence_with_what_each_lacks(friday):
    krx = Told("krx", WHOLE, needs=[Need("KSTOCK_KRX_KEY is not set", "get one")])
    with pytest.raises(ConfigError) as refused:
        night(friday, krx)
    assert str(refused.value).startswith("no live source can be asked (krx: KSTOCK_KRX_KEY is not set)")


def test_prices_that_no_ready_source_has_are_missing(friday):
    krx = Told("krx", WHOLE, needs=[Need("KSTOCK_KRX_KEY is not set", "get one")])
    done = night(friday, krx, Told("fred", {"macro": "range"}))
    with pytest.raises(DataNotReady) as missing:
        done.require_complete()
    assert "lacks price (no source that can be asked has it) and listing (no source" in str(missing.value)


def test_a_night_of_chosen_sources_is_complete_without_what_none_of_them_has(friday):
    done = night(friday, Told("fred", {"macro": "range"}))
    done.require_complete()


def test_a_demo_takes_no_real_rows_and_a_live_store_no_invented_ones(friday, tmp_path):
    result = run(friday, "demo", "--tickers", 20, "--sessions", 120)
    assert (result.exit_code, "the store holds data of `ingest` (2026-06-12)" in sentence(result)) == (2, True)
    done(tmp_path / "demo", "demo", "--tickers", 20, "--sessions", 120)
    with pytest.raises(ConfigError, match="the store holds data of `demo`"):
        night(tmp_path / "demo", Told("krx", WHOLE))
