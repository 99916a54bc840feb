"""A backfill of thirty sessions and ten nights, clean and with a fault on most of them, against the fake exchange.

The real adapters ask it over loopback; only the clock is ours, and who waits does not sleep. Whatever happens on the
way, the store ends as if nothing had, no session is ever stored in part or with another's prices, and no night asks
for more than it may.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from factories import copy_root, opened
from fake_exchange import pykrx as site_of
from fake_exchange.dart import filings_of, serve_dart
from fake_exchange.fdr import FILES, serve_fdr
from fake_exchange.krx import KEY, serve_krx
from fake_exchange.market import DELISTED, DELISTED_AT, FIRST, LAST, SPLIT, SPLIT_AT, small_market
from fake_exchange.pykrx import ACCOUNT, DATA, PRICES, RATIOS, asks, serve_pykrx
from fake_exchange.series import US_HOLIDAYS, closes_of, serve_fred, serve_yahoo
from fake_exchange.server import (
    BLOCK_PAGE,
    HALF_A_MARKET,
    HANG_IN_THE_MIDDLE,
    LOGIN_WALL,
    PROVISIONAL_FLOWS,
    SERVER_ERROR,
    FakeExchange,
    changed_column,
)
from kstock_batch.errors import DataNotReady
from kstock_batch.features.completeness import require_complete
from kstock_batch.ingest.live import sources as live_sources
from kstock_batch.ingest.live.backfill import run_backfill
from kstock_batch.ingest.live.night import Night, run_night
from kstock_batch.ingest.live.sources import ADAPTERS, make_sources, state_of
from kstock_batch.market.sessions import to_utc
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run

pytestmark = pytest.mark.skipif(find_spec("pykrx") is None, reason="the extra krx is not installed")

BACKFILLED, NIGHTS = range(1, 31), range(31, 41)  # sessions of the market: a split in the one, a departure in the other
CALLS_A_NIGHT = 60
ENVIRON = {"KSTOCK_KRX_KEY": KEY, "KSTOCK_DART_KEY": "d" * 40, **ACCOUNT}
# What one asks for tonight cannot be had tomorrow: which source told it, when it was stored, and after how many tries.
RAW = {
    "raw_price": "ticker, session, price_basis",
    "raw_market_cap": "ticker, session",
    "raw_listing": "ticker",
    "raw_designation": "ticker, kind, designated_on",
    "raw_valuation": "ticker, session",
    "raw_flow": "ticker, session",
    "raw_market_flow": "market, investor, session",
    "raw_short_balance": "ticker, session",
    "raw_macro": "series, event_date",
    "raw_financial": "ticker, period_end",
}
NOT_TOLD = {"source", "ingested_at", "version", "retracted_at"}


@dataclass
class Faults:
    """What is wrong on one evening: spoil the exchange, and perhaps come too early."""

    spoil: Callable[[FakeExchange], None] = lambda exchange: None
    at: time = time(18, 30)
    lacks: set[str] = field(default_factory=set)  # datasets that no source can give that evening


def of_site(question: str | None, fault) -> Callable[[FakeExchange], None]:
    """Spoil one question of KRX's data site, or all of them."""
    when = asks(question) if question else lambda asked: True
    return lambda exchange: exchange.fail(DATA, fault, when=when)


def everything_down(exchange: FakeExchange) -> None:
    of_site(None, BLOCK_PAGE)(exchange)
    exchange.fail(f"{FILES}/*", SERVER_ERROR)


def both_exchanges_in_trouble(exchange: FakeExchange) -> None:
    of_site(None, SERVER_ERROR)(exchange)
    exchange.fail("/sto/*", SERVER_ERROR)


EVENINGS = (
    Faults(of_site(PRICES, BLOCK_PAGE)),
    Faults(of_site(PRICES, HALF_A_MARKET)),
    Faults(of_site(RATIOS, changed_column("PER", "PER_RATIO"))),
    Faults(of_site(site_of.NET_BUYERS, PROVISIONAL_FLOWS), at=time(17, 45)),
    Faults(of_site(PRICES, HANG_IN_THE_MIDDLE)),
    Faults(both_exchanges_in_trouble),
    Faults(of_site(None, LOGIN_WALL)),
    Faults(everything_down, lacks={"price", "listing"}),
    Faults(),
    Faults(),
)


class World:
    """The exchange, evening after evening, and a root that asks it."""

    def __init__(self, exchange: FakeExchange, root: Path) -> None:
        self.exchange, self.root, self.market = exchange, root, small_market(FIRST, LAST)
        self.now = datetime(2026, 1, 1)
        url = exchange.url
        self.settings = Settings(
            root=root,
            sources=("krx", "pykrx", "fdr", "dart", "fred", "yahoo"),
            krx_url=url,
            pykrx_url=url,
            fdr_url=url,
            kind_url=url,
            dart_url=f"{url}/api",
            fred_url=f"{url}/graph/fredgraph.csv",
            yahoo_url=f"{url}/v8/finance/chart",
            calls_a_night=CALLS_A_NIGHT,
        )

    def evening(self, n: int, at: time = time(18, 30)) -> date:
        """Let it be the evening of the ``n``-th session: each source tells what it knows by then."""
        day, before = self.market.sessions[n], self.market.sessions[n - 1]
        self.now = to_utc(day, at)
        known = self.market.until(day)
        self.exchange.heal()
        serve_krx(self.exchange, self.market, published=before)
        serve_pykrx(self.exchange, known)
        serve_fdr(self.exchange, known, published=day)
        serve_dart(self.exchange, filings_of(known), key=ENVIRON["KSTOCK_DART_KEY"])
        serve_fred(self.exchange, closes_of(known))
        serve_yahoo(self.exchange, closes_of(known), now=self.now.replace(tzinfo=UTC))
        return day

    def sources(self):
        return make_sources(self.settings, ENVIRON, state_of(self.settings), sleep=lambda _: None, now=lambda: self.now)

    def backfill(self) -> None:
        self.evening(BACKFILLED[-1])
        with opened_run(self.settings, "ingest backfill", at=self.now) as run:
            start, end = (self.market.sessions[n] for n in (BACKFILLED[0], BACKFILLED[-1]))
            run_backfill(run, self.settings, self.sources(), start=start, end=end).require_complete()

    def night(self, n: int, faults: Faults) -> Night:
        self.evening(n, faults.at)
        faults.spoil(self.exchange)
        with opened_run(self.settings, "ingest", at=self.now) as run:
            return run_night(run, self.settings, self.sources(), as_of=None)

    def stored_prices(self) -> pl.DataFrame:
        with opened(self.settings.store) as con:
            return con.sql(
                "SELECT session, ticker, open, high, low, close, volume FROM price WHERE price_basis = 'raw'"
            ).pl()


def newest_versions(root: Path) -> dict[str, pl.DataFrame]:
    """Return what stands in every raw table: values, and since when they are known."""
    found = {}
    with opened(Settings(root=root).store) as con:
        for table, key in RAW.items():
            rows = con.sql(
                f"SELECT * FROM {table} WHERE retracted_at IS NULL"
                f" QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY version DESC, source) = 1 ORDER BY {key}"
            ).pl()
            found[table] = rows.select([name for name in rows.columns if name not in NOT_TOLD])
    return found


@pytest.fixture(scope="module")
def quick():
    """Nobody waits: an answer that does not come is given up after a moment."""
    patched = pytest.MonkeyPatch()
    for name, adapter in ADAPTERS.items():
        limits = replace(adapter.limits, timeout_s=3, attempts=2, wait_max_s=0, min_interval_s=0)
        patched.setitem(live_sources.ADAPTERS, name, replace(adapter, limits=limits))
    yield
    patched.undo()


@pytest.fixture(scope="module")
def exchange(quick):
    with FakeExchange() as running:
        yield running


@pytest.fixture(scope="module")
def backfilled(exchange, tmp_path_factory):
    world = World(exchange, tmp_path_factory.mktemp("backfilled"))
    world.backfill()
    return world


def nights(backfilled: World, root: Path, evenings) -> tuple[World, list[Night]]:
    world = World(backfilled.exchange, copy_root(backfilled.root, root))
    done = []
    for n, faults in zip(NIGHTS, evenings, strict=True):
        before = world.exchange.n_calls()
        night = world.night(n, faults)
        assert night.n_calls <= world.exchange.n_calls() - before <= CALLS_A_NIGHT
        require_only_whole_sessions(world)
        done.append(night)
    return world, done


def require_only_whole_sessions(world: World) -> None:
    """What is stored of a session is all of it, as it was: no half, no other day, nothing provisional."""
    stored = world.stored_prices()
    truth = world.market.price.filter(pl.col("session").is_in(stored["session"].unique().implode()))
    assert stored.height == truth.height
    both = stored.join(truth, on=["session", "ticker"], how="inner", validate="1:1")
    assert both.height == truth.height
    other = [pl.col(name) != pl.col(f"{name}_right") for name in ("close", "volume")]
    assert both.filter(pl.any_horizontal(other)).is_empty()
    with opened(world.settings.store) as con:
        newest = stored["session"].max()
        require_complete(con, newest, replace(world.settings, price_basis="raw"))


@pytest.fixture(scope="module")
def clean(backfilled, tmp_path_factory):
    return nights(backfilled, tmp_path_factory.mktemp("clean") / "root", [Faults()] * len(NIGHTS))


@pytest.fixture(scope="module")
def rough(backfilled, tmp_path_factory):
    return nights(backfilled, tmp_path_factory.mktemp("rough") / "root", EVENINGS)


def test_the_backfill_stores_the_market_as_it_was(backfilled):
    require_only_whole_sessions(backfilled)
    assert backfilled.stored_prices()["session"].n_unique() == len(BACKFILLED)


def test_clean_nights_miss_nothing_and_their_sources_agree(clean):
    _, done = clean
    after_a_holiday = {day + timedelta(days=3 if day.weekday() == 4 else 1) for day in US_HOLIDAYS}
    assert {night.as_of for night in done if night.missing} <= after_a_holiday  # nobody has a close that never was
    assert {name for night in done for name in night.missing} <= {"macro"}
    assert sum(check.n_disagreeing for night in done for check in night.checks) == 0
    assert {check.source for night in done for check in night.checks} >= {"krx"}


def test_after_nights_with_faults_the_store_is_that_of_clean_ones(clean, rough):
    ours, theirs = newest_versions(rough[0].root), newest_versions(clean[0].root)
    for table in RAW:
        assert not theirs[table].is_empty(), table
        assert ours[table].equals(theirs[table], null_equal=True), (table, difference(ours[table], theirs[table]))


def test_every_fault_was_met_and_said(rough):
    _, done = rough
    for night, faults in zip(done, EVENINGS, strict=True):
        needed = set(night.missing) & {"price", "listing"}
        assert needed == faults.lacks, night.missing
        if faults.lacks:
            with pytest.raises(DataNotReady):
                night.require_complete()
    told = " ".join(str(batch.why) for night in done for batch in night.batches if batch.why)
    for words in ("gave only", "PER", "shut", "nothing yet"):
        assert words in told, words
    assert done[3].provisional.keys() >= {"flow", "valuation"}


def test_a_night_costs_what_the_documentation_says(clean):
    _, done = clean
    assert max(night.n_calls for night in done[1:]) <= 45, [night.n_calls for night in done]


def test_a_split_and_a_departure_within_the_span_are_there(clean):
    world, _ = clean
    assert (SPLIT_AT in BACKFILLED, DELISTED_AT in NIGHTS) == (True, True)
    with opened(world.settings.store) as con:
        of_split = "SELECT count(DISTINCT shares_outstanding) FROM raw_price WHERE ticker = $t"
        shares = con.execute(of_split, {"t": SPLIT}).fetchall()
        left = con.execute(
            "SELECT last_seen, available_at FROM raw_listing WHERE ticker = $t AND last_seen IS NOT NULL",
            {"t": DELISTED},
        ).fetchall()
    sessions = world.market.sessions
    assert shares == [(2,)]
    assert left == [(sessions[DELISTED_AT - 1], to_utc(sessions[DELISTED_AT], time(15, 45)))]


def difference(ours: pl.DataFrame, theirs: pl.DataFrame) -> str:
    only_ours = ours.join(theirs, on=ours.columns, how="anti", nulls_equal=True)
    only_theirs = theirs.join(ours, on=ours.columns, how="anti", nulls_equal=True)
    return " / ".join(f"{only.height} rows, {only.head(3).rows()}" for only in (only_ours, only_theirs))
