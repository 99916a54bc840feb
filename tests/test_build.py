"""feature_daily as a whole: point in time, incremental = backfill, who is scoreable, who is strong."""

from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hand_store import hand_store, listing, prices, put, weekdays
from kstock_batch.features import plan
from kstock_batch.features.block import Recipe
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.features.cross_section import rs_percentile
from kstock_batch.features.replay import compute_features
from kstock_batch.features.windows import BarRows, gather
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.ingest.sources.sample_market import generate
from kstock_batch.market.contract import FEATURE_NAMES, N_FEATURES
from kstock_batch.market.sessions import krx_sessions
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run, opened_run
from kstock_batch.store.queries import Query, sql_folder
from steps import computed_in_steps

SESSIONS = krx_sessions(date(2025, 1, 2), date(2026, 4, 30))[:270]
# The session before third-quarter reports become known, and two ordinary ones.
CUTS = (date(2025, 11, 14), SESSIONS[249], SESSIONS[268])
RAW = ("raw_price", "raw_market_cap", "raw_financial", "raw_valuation", "raw_flow", "raw_macro", "raw_market_flow")


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    folder = tmp_path_factory.mktemp("market")
    generate(SESSIONS, n_tickers=40, seed=3).write(folder)
    return folder


def ingest(root, folder, at=datetime(2026, 5, 1)):
    settings = Settings.load(root, environ={})
    with opened_run(settings, "test", at=at) as run:
        ingest_files(run.warehouse, folder, load_mapping(), settings=settings, run=run)
    return settings


def build(settings, at=datetime(2026, 5, 2)):
    with opened_run(settings, "test", at=at) as run:
        bring_up_to_date(run.warehouse, settings, run)
        return run.warehouse.con.sql("FROM feature_daily ORDER BY as_of, ticker").pl()


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_features_of_a_night_are_the_same_when_nothing_later_is_in_the_store(tmp_path, market, cut):
    settings = ingest(tmp_path, market)
    with opened_run(settings, "test", at=datetime(2026, 5, 2)) as run:
        con = run.warehouse.con
        everything_stored = compute_features(con, SESSIONS[200], SESSIONS[-1]).filter(pl.col("as_of") <= cut)
        asked_until_then = compute_features(con, SESSIONS[200], cut)
        for table in RAW:
            con.execute(
                f"DELETE FROM {table} WHERE available_at > (SELECT cutoff_at FROM raw_calendar WHERE session = $cut)",
                {"cut": cut},
            )
        as_it_was = compute_features(con, SESSIONS[200], cut)
    assert as_it_was["as_of"].max() == cut
    assert_frame_equal(as_it_was, everything_stored, check_exact=True)
    assert_frame_equal(as_it_was, asked_until_then, check_exact=True)


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_nights_computed_one_after_the_other_equal_a_backfill_to_the_bit(tmp_path, market, cut):
    backfilled = build(ingest(tmp_path / "at_once", market))
    early = tmp_path / "early"
    early.mkdir()
    for path in market.glob("*.parquet"):
        frame = pl.read_parquet(path)
        day = next((name for name in ("available_from", "date") if name in frame.columns), None)
        (frame.filter(pl.col(day) <= cut) if day else frame).write_parquet(early / path.name)
    settings = ingest(tmp_path / "nightly", early)
    first = build(settings)
    assert first["as_of"].max() == cut
    nightly = build(ingest(tmp_path / "nightly", market, at=datetime(2026, 5, 3)), at=datetime(2026, 5, 4))
    assert_frame_equal(nightly, backfilled, check_exact=True)


@pytest.fixture(scope="module", params=["adjusted", "raw"])
def backfilled(request, tmp_path_factory, market):
    """A store of the market with all features computed in one go, open, and its recipe."""
    root = tmp_path_factory.mktemp(f"backfilled_{request.param}")
    (root / "kstock.toml").write_text(f'price_basis = "{request.param}"\n', encoding="utf-8")
    settings = ingest(root, market)
    with opened_run(settings, "test", at=datetime(2026, 5, 2)) as run:
        con = run.warehouse.con
        recipe = Recipe(price_basis=request.param)
        yield con, recipe, compute_features(con, SESSIONS[0], SESSIONS[-1], recipe)


@trials(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, len(SESSIONS) - 1), min_size=1, max_size=5))
def test_whatever_the_steps_the_features_have_the_bits_of_one_backfill(backfilled, cuts):
    con, recipe, at_once = backfilled
    assert_frame_equal(computed_in_steps(con, SESSIONS, cuts, recipe), at_once, check_exact=True)


def test_a_second_build_finds_nothing_due(tmp_path, market):
    settings = ingest(tmp_path, market)
    build(settings)
    with opened_run(settings, "test", at=datetime(2026, 5, 3)) as run:
        assert bring_up_to_date(run.warehouse, settings, run).n_rows == 0


def test_a_build_reopens_the_sessions_that_new_rows_can_change_and_no_others(tmp_path, market):
    settings = ingest(tmp_path, market)
    build(settings)
    with opened_run(settings, "test", at=datetime(2026, 5, 3)) as run:
        run.warehouse.con.execute("INSERT INTO feature_due VALUES ('raw_price', $day, 'x')", {"day": SESSIONS[260]})
        rebuilt = bring_up_to_date(run.warehouse, settings, run)
    assert (rebuilt.start, rebuilt.end) == (SESSIONS[260], SESSIONS[-1])


def test_a_setting_that_changes_what_is_stored_rebuilds_everything(tmp_path, market):
    settings = ingest(tmp_path, market)
    build(settings)
    with opened_run(settings, "test", at=datetime(2026, 5, 3)) as run:
        rebuilt = bring_up_to_date(run.warehouse, replace(settings, include_preferred=True), run)
    assert (rebuilt.start, rebuilt.end) == (SESSIONS[0], SESSIONS[-1])


def test_the_sample_market_fills_every_feature(tmp_path, market):
    rows = build(ingest(tmp_path, market)).filter(pl.col("is_scoreable"))
    known = rows.select(pl.col(FEATURE_NAMES).is_not_null().mean())
    assert min(known.row(0)) > 0.1, known.row(0, named=True)
    assert rows.select(pl.col(FEATURE_NAMES).is_nan().any()).row(0) == (False,) * N_FEATURES


def test_null_feature_count_counts_the_nulls(tmp_path, market):
    rows = build(ingest(tmp_path, market))
    counted = rows.select(pl.sum_horizontal(pl.col(name).is_null() for name in FEATURE_NAMES)).to_series()
    assert rows["null_feature_count"].to_list() == counted.to_list()


def scoreable(tmp_path, closes, *, include_preferred=False, **kind):
    days = weekdays(date(2023, 1, 2), len(closes))
    with hand_store(tmp_path, days) as warehouse:
        put(warehouse, "raw_price", prices("000010", days, closes))
        put(warehouse, "raw_listing", [listing("000010", **kind)], available_at=datetime(1900, 1, 1))
        rows = compute_features(warehouse.con, days[0], days[-1], Recipe(include_preferred=include_preferred))
    return rows.filter(pl.col("is_scoreable"))["bars_available"].to_list()


def test_a_stock_is_scoreable_from_its_sixtieth_bar(tmp_path):
    assert scoreable(tmp_path, [100 + i for i in range(62)]) == [60, 61, 62]


def test_twenty_bars_that_span_more_than_forty_sessions_are_not_scoreable(tmp_path):
    closes = [100.0 + i for i in range(60)] + [None] * 20 + [200.0] * 3 + [None] + [200.0] * 18
    # The last 20 bars span 40 sessions on the first bar after the gap and never more than 40 with 20 sessions missing;
    # one more missing session makes it 41, until the gap has left the window.
    assert scoreable(tmp_path, closes) == [60, 61, 62, 63, *range(80, 82)]


@pytest.mark.parametrize(
    ("kind", "counts"),
    [
        ({"market": "KOSDAQ"}, True),
        ({"market": "KONEX"}, False),
        ({"is_spac": True}, False),
        ({"is_preferred": True}, False),
        ({"is_preferred": True, "include_preferred": True}, True),
    ],
)
def test_only_common_stock_of_the_two_boards_is_scoreable(tmp_path, kind, counts):
    assert bool(scoreable(tmp_path, [100 + i for i in range(61)], **kind)) is counts


def test_a_store_of_names_that_never_traded_has_no_features_and_no_fault(tmp_path):
    days = weekdays(date(2023, 1, 2), 30)
    with hand_store(tmp_path, days) as warehouse:
        put(warehouse, "raw_price", prices("000010", days, [-100] * 30))
        run = Run("run", "test", datetime(2023, 6, 1), warehouse)
        done = bring_up_to_date(warehouse, Settings(root=tmp_path), run)
        assert (done.n_rows, bring_up_to_date(warehouse, Settings(root=tmp_path), run).n_rows) == (0, 0)


def test_a_market_cap_printed_before_the_first_trade_is_known_to_nights_as_to_a_backfill(tmp_path):
    days = weekdays(date(2023, 1, 2), 60)
    with hand_store(tmp_path, days) as warehouse:
        put(warehouse, "raw_price", prices("000010", days, [-100] * 20 + [100 + i for i in range(40)]))
        cap = {"ticker": "000010", "session": days[5], "market_cap": 1e12, "available_at": datetime(2023, 1, 9, 7)}
        put(warehouse, "raw_market_cap", [cap])
        at_once = compute_features(warehouse.con, days[0], days[-1])
        assert at_once["market_cap_log"].null_count() == 0
        in_steps = computed_in_steps(warehouse.con, days, [10, 25, 26, 40])
    assert_frame_equal(in_steps, at_once, check_exact=True)


def test_prices_that_begin_later_leave_no_row_of_those_that_counted_before(tmp_path):
    days = weekdays(date(2023, 1, 2), 40)
    with hand_store(tmp_path, days) as warehouse:
        put(warehouse, "raw_price", prices("000010", days, [100] * 40))
        put(warehouse, "raw_price", [row | {"price_basis": "raw"} for row in prices("000010", days, [100] * 40)[25:]])
        run = Run("run", "test", datetime(2023, 6, 1), warehouse)
        bring_up_to_date(warehouse, Settings(root=tmp_path), run)
        bring_up_to_date(warehouse, Settings(root=tmp_path, price_basis="raw"), run)
        held = [d for (d,) in warehouse.con.execute("SELECT as_of FROM feature_daily ORDER BY as_of").fetchall()]
        ledger = warehouse.con.execute("SELECT count(*) FROM feature_session").fetchall()
    assert (held, ledger) == (days[25:], [(15,)])


def test_every_module_and_statement_of_the_features_either_decides_values_or_is_known_not_to():
    others = {"__init__", "build", "completeness", "extra", "extra_columns", "plan", "replay", "retrieval", "sessions"}
    modules = {path.stem for path in Path(plan.__file__).parent.glob("*.py")}
    assert modules == {*plan.DEFINING, *others, "windows"}
    statements = {path.stem for path in (sql_folder() / "features").glob("*.sql")}
    deciding = {name.removeprefix("features/") for name in plan.DEFINING_STATEMENTS if name.startswith("features/")}
    assert statements == {*deciding, "newest_known", "price_range", "session_completeness", "training_row"}


def test_relative_strength_ranks_scoreable_names_only_and_ties_share_the_best_rank():
    frame = pl.DataFrame(
        {
            "as_of": [1] * 6 + [2],
            "is_scoreable": [True, True, True, True, False, True, True],
            "return_3m_pct": [30.0, 10.0, 10.0, -5.0, 99.0, None, 1.0],
        }
    )
    found = frame.with_columns(rs_percentile())["rs_percentile"].to_list()
    assert found == pytest.approx([100, 200 / 3, 200 / 3, 0, None, None, None], nan_ok=True)


def test_every_window_cell_is_the_stored_cell_of_its_ticker_and_bar(tmp_path, market):
    settings = ingest(tmp_path, market)
    build(settings)
    with opened_run(settings, "test", at=datetime(2026, 5, 3)) as run:
        con = run.warehouse.con
        frame = Query.load("features/training_row").frame(
            con, start=SESSIONS[100], end=SESSIONS[-1], known_through=SESSIONS[-1]
        )
        stored = con.sql("FROM feature_daily").pl()
    bars = BarRows.of(frame)
    ends = bars.window_ends()[::97]
    windows = gather(bars.values(FEATURE_NAMES), ends)
    assert windows.shape == (len(ends), 20, N_FEATURES)
    for window, end in zip(windows, ends, strict=True):
        ticker, as_of = bars.frame.row(int(end), named=True)["ticker"], bars.frame["as_of"][int(end)]
        own = stored.filter((pl.col("ticker") == ticker) & (pl.col("as_of") <= as_of)).sort("as_of").tail(20)
        expected = own.select(pl.col(FEATURE_NAMES).fill_null(float("nan"))).to_numpy()
        assert (window.tobytes()) == expected.astype("float32").tobytes()
