"""The backfill: years in any number of runs, each question asked once, and a kill that costs a day at most."""

from __future__ import annotations

from datetime import date, time, timedelta

import polars as pl
import pytest

from factories import content, copy_root, done, run, sentence, store_rows
from kstock_batch.cli import live
from kstock_batch.errors import BudgetSpent, ConfigError, DataNotReady, SourceBlocked, SourceUnreachable
from kstock_batch.ingest.live import gate
from live_night import (
    DAYS,
    KOSDAQ,
    N_STOCKS,
    PRICE,
    TABLES,
    TICKERS,
    WHOLE,
    Told,
    backfilled,
    evening,
    half_a_market,
    night,
    nothing,
    prepared,
)

FIRST, LAST = DAYS[0], DAYS[9]
SPAN = {"start": FIRST, "end": LAST}
SPENT = BudgetSpent("today's 10,000 calls of krx are used up", fix="go on tomorrow")


@pytest.fixture(scope="module")
def _empty(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def root(_empty, tmp_path):
    return copy_root(_empty, tmp_path / "root")


def sessions_of(root, table="raw_price"):
    return [day for (day,) in store_rows(root, f"SELECT DISTINCT session FROM {table} ORDER BY 1")]


class Killed(BaseException):
    """What no code of ours catches, like a kill."""


def test_every_session_of_the_span_is_asked_for_once_and_stored(root):
    krx = Told("krx", WHOLE)
    backfill = backfilled(root, krx, **SPAN)
    assert sessions_of(root) == list(DAYS[:10])
    assert (backfill.n_wanted, backfill.n_done, backfill.n_calls, backfill.missing) == (20, 20, 20, {})
    assert backfilled(root, krx, **SPAN).n_calls == 20
    assert len(krx.asked) == 20


def test_it_goes_on_where_a_kill_stopped_it_and_ends_like_one_that_was_not_stopped(root, tmp_path):
    other = copy_root(root, tmp_path / "other")
    krx = Told("krx", WHOLE)
    backfilled(other, krx, **SPAN)

    def killed(rows):
        raise Killed

    victim = Told("krx", WHOLE).on("listing", DAYS[4], killed)
    with pytest.raises(Killed):
        backfilled(root, victim, **SPAN)
    assert sessions_of(root) == list(DAYS[:5])
    victim.heal()
    victim.asked.clear()
    backfill = backfilled(root, victim, **SPAN)
    assert (victim.asked[0], backfill.n_done_before) == (("listing", DAYS[4]), 9)
    without = "ingested_at|retracted_at|run_id|finished_at"
    tables = (*TABLES, "ingest_batch")
    assert content(root, tables, without=without) == content(other, tables, without=without)


def test_rows_and_their_batch_are_one_transaction(root, monkeypatch):
    from kstock_batch.ingest.live import intake

    def killed(*_):
        raise Killed

    monkeypatch.setattr(intake, "write_batches", killed)
    with pytest.raises(Killed):
        backfilled(root, Told("krx", WHOLE), **SPAN)
    assert content(root, ("raw_price", "raw_listing", "ingest_batch")) == {
        "raw_price": (0, "0"),
        "raw_listing": (0, "0"),
        "ingest_batch": (0, "0"),
    }


def test_a_night_after_a_backfill_asks_for_nothing_that_is_stored(root):
    krx = Told("krx", WHOLE)
    backfilled(root, krx, **SPAN)
    krx.asked.clear()
    night(root, krx, day=DAYS[10])
    assert set(krx.asked) == {("price", DAYS[10]), ("listing", DAYS[10])}


def test_backfilled_rows_are_those_that_nights_would_have_stored(root, tmp_path):
    other = copy_root(root, tmp_path / "other")
    for day in DAYS[:4]:
        night(other, Told("krx", WHOLE), day=day)
    backfilled(root, Told("krx", WHOLE), start=FIRST, end=DAYS[3])
    assert content(root, TABLES, without="ingested_at") == content(other, TABLES, without="ingested_at")


def test_an_older_list_does_not_change_what_a_newer_one_told(root):
    krx = Told("krx", WHOLE)
    night(root, krx, day=DAYS[10])
    old = lambda rows: rows.with_columns(name=pl.lit("옛 이름"))  # noqa: E731
    backfilled(root, krx.on("listing", None, old), **SPAN)
    assert store_rows(root, "SELECT count(*) FROM listing WHERE name = '옛 이름'") == [(0,)]


def test_half_a_market_is_kept_out_of_the_past_too(root):
    krx = Told("krx", WHOLE).on("price", DAYS[3], half_a_market)
    backfill = backfilled(root, krx, **SPAN)
    assert DAYS[3] not in sessions_of(root)
    assert backfill.missing["price"] == ([DAYS[3]], "krx gave only 0 KOSDAQ names of the usual 20")
    with pytest.raises(DataNotReady) as refused:
        backfill.require_complete()
    assert "lacks price of 1 sessions from 2026-06-09 (krx gave only 0 KOSDAQ" in str(refused.value)


def test_the_first_session_of_all_is_measured_by_the_listing(root):
    krx = Told("krx", WHOLE).on("price", FIRST, half_a_market)
    assert backfilled(root, krx, **SPAN).missing["price"][0] == [FIRST]


# Sources and their spans


def test_a_source_that_tells_of_a_year_is_asked_once_a_year_and_dataset(root):
    marcap = Told("marcap", {"price": "year", "market_cap": "year"})
    backfilled(root, marcap, **SPAN)
    assert marcap.asked == [("price", LAST), ("market_cap", LAST)]
    assert marcap.starts == [("price", FIRST), ("market_cap", FIRST)]
    assert sessions_of(root) == list(DAYS[:10])


def test_series_are_one_question(root):
    fred = Told("fred", {"macro": "range"})
    backfill = backfilled(root, fred, **SPAN)
    assert fred.asked == [("macro", LAST)]
    assert (backfill.n_done, backfill.missing) == (10, {})
    assert fred.starts[0][1] < FIRST
    backfilled(root, fred, **SPAN)
    assert len(fred.asked) == 1


def test_the_next_source_takes_over_when_the_calls_of_one_are_used_up(root):
    krx = Told("krx", WHOLE).on("price", DAYS[2], SPENT)
    backfill = backfilled(root, krx, Told("marcap", {"price": "year"}), datasets=("price",), **SPAN)
    assert store_rows(root, "SELECT source, count(DISTINCT session) FROM raw_price GROUP BY 1 ORDER BY 1") == [
        ("krx", 2),
        ("marcap", 8),
    ]
    assert krx.days_asked("price") == list(DAYS[:3])
    backfill.require_complete()


def test_a_days_calls_that_are_used_up_end_it_and_the_next_day_goes_on(root):
    krx = Told("krx", WHOLE).on("price", DAYS[2], SPENT)
    backfill = backfilled(root, krx, **SPAN)
    assert len(krx.asked) == 5
    with pytest.raises(BudgetSpent) as spent:
        backfill.require_complete()
    assert str(spent.value).splitlines() == [
        "today's 10,000 calls of krx are used up: 4 of 20 are done",
        "  fix: run the same command again tomorrow: it goes on where it stopped",
    ]
    krx.heal()
    backfilled(root, krx, **SPAN).require_complete()
    assert sessions_of(root) == list(DAYS[:10])


def test_a_block_ends_it_without_another_question(root):
    krx = Told("krx", WHOLE).on("price", None, SourceBlocked("krx has shut us out", fix="wait"))
    backfill = backfilled(root, krx, **SPAN)
    assert krx.asked == [("listing", FIRST), ("price", FIRST)]
    assert store_rows(root, "SELECT count(*) FROM ingest_batch") == [(2,)]  # what nobody was asked is no batch
    with pytest.raises(DataNotReady, match="krx has shut us out"):
        backfill.require_complete()


def test_one_question_without_an_answer_is_asked_in_the_next_run_only(root):
    down = SourceUnreachable("krx gave no answer", fix="later")
    krx = Told("krx", PRICE).on("price", DAYS[3], down)
    backfill = backfilled(root, krx, **SPAN)
    assert (krx.days_asked("price"), backfill.missing["price"][0]) == (list(DAYS[:10]), [DAYS[3]])
    krx.heal()
    krx.asked.clear()
    backfilled(root, krx, **SPAN)
    assert krx.asked == [("price", DAYS[3])]


def test_what_a_source_does_not_have_is_no_failure_unless_no_night_is_complete_without_it(root):
    krx = Told("krx", {**WHOLE, "valuation": "day"}).on("valuation", None, nothing)
    backfill = backfilled(root, krx, **SPAN)
    assert backfill.missing["valuation"] == (list(DAYS[:10]), "krx has nothing yet")
    backfill.require_complete()


def test_only_what_is_final_is_asked_for(root):
    krx = Told("krx", {**WHOLE, "flow": "day", "short_balance": "day"})
    backfilled(root, krx, at=evening(LAST, time(17, 0)), **SPAN)
    assert krx.days_asked("price")[-1] == LAST
    assert (krx.days_asked("flow")[-1], krx.days_asked("short_balance")[-1]) == (DAYS[8], DAYS[6])


def test_stocks_that_left_within_the_span_are_told_apart_from_those_that_stayed(root):
    gone = lambda rows: rows.filter(pl.col("ticker") != TICKERS[5])  # noqa: E731
    krx = Told("krx", WHOLE)
    for day in DAYS[6:10]:
        krx.on("price", day, gone).on("listing", day, gone)
    backfilled(root, krx, **SPAN)
    left = store_rows(root, "SELECT ticker, last_seen, available_at FROM raw_listing WHERE last_seen IS NOT NULL")
    assert left == [(TICKERS[5], DAYS[5], evening(DAYS[6], time(15, 45)))]


def test_a_market_that_grew_over_the_years_is_no_half_one(root, monkeypatch):
    """The store knows today's listing, and ten years ago there were fewer."""
    monkeypatch.setattr(gate, "NEAR", timedelta(days=20))
    krx = Told("krx", WHOLE)
    night(root, krx, day=DAYS[-1])
    fewer = lambda rows: rows.filter(~pl.col("ticker").is_in(KOSDAQ[:6]))  # noqa: E731
    for dataset in WHOLE:
        krx.on(dataset, None, fewer)
    backfill = backfilled(root, krx, start=FIRST, end=FIRST)
    assert (backfill.missing, store_rows(root, f"SELECT count(*) FROM raw_price WHERE session = '{FIRST}'")) == (
        {},
        [(N_STOCKS - 6,)],
    )


# The command


@pytest.fixture
def by_hand(monkeypatch):
    """Commands ask the sources in memory that the test puts into the returned list, long after the last session."""
    from kstock_batch.ingest.live import sources

    chosen: list[Told] = []
    monkeypatch.setattr(sources, "make_sources", lambda *_, **__: list(chosen))
    monkeypatch.setattr(live, "utc_now", lambda: evening(DAYS[-1]))
    return chosen


def test_the_command_tells_what_it_did_and_exits_with_3_while_prices_are_missing(root, by_hand):
    by_hand.append(Told("krx", WHOLE).on("price", DAYS[3], half_a_market))
    result = run(root, "ingest", "backfill", "--from", FIRST, "--to", LAST)
    assert result.exit_code == 3
    assert result.stdout.startswith("19 sessions of datasets done of 2026-06-04 … 2026-06-17, 1 missing: ")
    by_hand[0].heal()
    again = done(root, "ingest", "backfill", "--from", FIRST, "--to", LAST)
    assert again.stdout.startswith("1 sessions of datasets done of 2026-06-04 … 2026-06-17, 19 were done before")


def test_the_command_says_what_cannot_be_asked(root, by_hand):
    by_hand.append(Told("krx", WHOLE))
    late = run(root, "ingest", "backfill", "--from", LAST, "--to", FIRST)
    assert (late.exit_code, "--from 2026-06-17 is after --to 2026-06-04" in sentence(late)) == (2, True)
    odd = run(root, "ingest", "backfill", "--from", FIRST, "--to", LAST, "--dataset", "prices")
    assert (odd.exit_code, "no dataset is called prices" in sentence(odd)) == (2, True)


def test_a_span_without_a_session_asks_nobody(root):
    krx = Told("krx", WHOLE)
    assert backfilled(root, krx, start=date(2026, 6, 6), end=date(2026, 6, 7)).n_wanted == 0
    assert krx.asked == []


def test_no_ready_source_is_one_sentence(root):
    from kstock_batch.ingest.sources.live import Need

    with pytest.raises(ConfigError, match="no live source can be asked"):
        backfilled(root, Told("krx", WHOLE, needs=[Need("no key", "get one")]), **SPAN)
