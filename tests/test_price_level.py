"""Raw prices and the corporate actions they show: one level a ticker, adjusted as of T, no jump."""

from datetime import date, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from factories import sample_frames, write_folder
from hand_store import hand_store, prices, put, weekdays
from kstock_batch.features.block import Recipe
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.features.replay import compute_features
from kstock_batch.ingest.pipeline import ingest_files
from kstock_batch.ingest.sources.files import load_mapping
from kstock_batch.market.contract import FEATURES
from kstock_batch.market.sessions import cutoff_at
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import opened_run

DAYS = weekdays(date(2024, 1, 2), 80)
RAW = Recipe(price_basis="raw")
SPLIT = 40  # the first session after it


def raw_rows(closes, bases, *, shares=None, halted=()):
    """Return the exchange's rows: the change in percent is against the session's base price."""
    rows = prices("000010", DAYS[: len(closes)], closes)
    for n, (row, base) in enumerate(zip(rows, bases, strict=True)):
        row["price_basis"] = "raw"
        row["change_pct"] = None if base is None else round(100 * (row["close"] / base - 1), 2)
        row["shares_outstanding"] = (shares or [1_000_000] * len(rows))[n]
        row["volume"] = 0 if n in halted else 1000
    return rows


def walk(n, level=50_000):
    return [float(round(level * (1 + 0.02 * ((7 * i) % 5 - 2)))) for i in range(n)]


def split_rows(ratio=5, **kind):
    """A stock that splits ``ratio``:1 before session SPLIT."""
    whole = walk(80)
    closes = whole[:SPLIT] + [round(close / ratio) for close in whole[SPLIT:]]
    bases = [closes[0], *closes[:-1]]
    bases[SPLIT] = round(whole[SPLIT - 1] / ratio)
    return raw_rows(closes, bases, **kind)


def computed(tmp_path, rows, stated=(), recipe=RAW):
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", rows)
        if stated:
            put(warehouse, "raw_corporate_action", list(stated))
        return compute_features(warehouse.con, DAYS[0], DAYS[-1], recipe)


def has_no_jump(rows):
    return rows["atr_pct"].drop_nulls().max() < 6 and rows["high_20d_ratio"].drop_nulls().min() > 0.9


def test_a_split_is_read_off_the_base_price_and_the_level_is_that_of_the_session(tmp_path):
    found = computed(tmp_path, split_rows())
    assert has_no_jump(found)
    assert found["close"].to_list()[SPLIT - 1] == pytest.approx(walk(80)[SPLIT - 1])
    assert found["close"].to_list()[SPLIT] == pytest.approx(walk(80)[SPLIT] / 5, rel=1e-4)
    last = found.row(-1, named=True)
    assert last["ema_50"] == pytest.approx(10_000, rel=0.02), "won of the session, not of the first bar"


def test_prices_without_a_corporate_action_are_left_as_they_are(tmp_path):
    closes = walk(80)
    raw = computed(tmp_path / "raw", raw_rows(closes, [closes[0], *closes[:-1]]))
    adjusted = computed(tmp_path / "adjusted", prices("000010", DAYS, closes), recipe=Recipe())
    assert_frame_equal(raw, adjusted, check_exact=True)


def test_the_printed_change_is_rounded_and_that_is_no_corporate_action(tmp_path):
    closes = [float(c) for c in (1_135, 1_150, 1_149, 1_163) * 20]
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", raw_rows(closes, [1_120.0, *closes[:-1]]))
        bring_up_to_date(warehouse, Settings(root=tmp_path, price_basis="raw"), _run(warehouse))
        assert warehouse.con.sql("FROM price_action").pl().is_empty()


def _run(warehouse):
    from kstock_batch.store.ledger import Run

    return Run("run", "test", cutoff_at(DAYS[-1]), warehouse)


def test_without_a_change_in_percent_the_shares_tell_of_a_split(tmp_path):
    rows = [row | {"change_pct": None} for row in split_rows(shares=[1_000_000] * SPLIT + [5_000_000] * 40)]
    assert has_no_jump(computed(tmp_path, rows))


def test_new_shares_without_a_fall_are_no_split(tmp_path):
    closes = walk(80)
    rows = raw_rows(closes, [None] * 80, shares=[1_000_000] * SPLIT + [1_300_000] * 40)
    assert has_no_jump(computed(tmp_path, rows))


def test_a_stated_action_is_believed_before_what_prices_seem_to_say(tmp_path):
    rows = [row | {"change_pct": None} for row in split_rows()]
    known = cutoff_at(DAYS[SPLIT]) - timedelta(days=30)
    action = {"ticker": "000010", "session": DAYS[SPLIT], "factor": 0.2, "kind": "split", "available_at": known}
    assert not has_no_jump(computed(tmp_path / "untold", rows))
    assert has_no_jump(computed(tmp_path / "told", rows, [action]))


def test_a_capital_reduction_during_a_halt_is_read_off_the_first_price_after_it(tmp_path):
    closes = [1_000.0] * SPLIT + [1_000.0] * 10 + [5_100.0] * 30
    bases = [1_000.0] * (SPLIT + 10) + [5_000.0] + [5_100.0] * 29
    found = computed(tmp_path, raw_rows(closes, bases, halted=range(SPLIT, SPLIT + 10)))
    assert has_no_jump(found)
    assert found.height == 70


def test_market_cap_moves_with_the_price_through_a_split(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", split_rows())
        cap = {"ticker": "000010", "session": DAYS[30], "market_cap": 1e12, "available_at": cutoff_at(DAYS[30])}
        put(warehouse, "raw_market_cap", [cap])
        found = compute_features(warehouse.con, DAYS[0], DAYS[-1], RAW)
    caps = 10 ** found["market_cap_log"].to_numpy()
    whole = walk(80)
    assert caps[SPLIT] == pytest.approx(1e12 * whole[SPLIT] / whole[30], rel=1e-3)


def test_a_stated_action_on_a_session_without_a_row_shows_in_the_next_one(tmp_path):
    rows = [row | {"change_pct": None} for row in split_rows() if row["session"] != DAYS[SPLIT]]
    known = cutoff_at(DAYS[SPLIT]) - timedelta(days=30)
    action = {"ticker": "000010", "session": DAYS[SPLIT], "factor": 0.2, "kind": "split", "available_at": known}
    assert has_no_jump(computed(tmp_path, rows, [action]))


def corrected_split(known_late):
    """Return rows whose split was at first printed without a base price, and the correction that came later."""
    rows = split_rows()
    wrong = rows[SPLIT] | {"change_pct": round(100 * (rows[SPLIT]["close"] / rows[SPLIT - 1]["close"] - 1), 2)}
    return [*rows[:SPLIT], wrong, *rows[SPLIT + 1 :]], rows[SPLIT] | {"available_at": known_late, "version": 2}


def built(warehouse):
    settings = Settings(root=warehouse.path.parents[1], price_basis="raw")
    bring_up_to_date(warehouse, settings, _run(warehouse))
    return warehouse.con.sql("FROM feature_daily ORDER BY as_of, ticker").pl()


def test_nights_before_a_corrected_action_can_be_computed_again_after_it(tmp_path):
    first, correction = corrected_split(cutoff_at(DAYS[60]))
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", first)
        built(warehouse)
        put(warehouse, "raw_price", [correction])
        warehouse.con.execute("INSERT INTO feature_due VALUES ('raw_price', $day, 'x')", {"day": DAYS[60]})
        whole = built(warehouse)
        assert_frame_equal(whole, compute_features(warehouse.con, DAYS[0], DAYS[-1], RAW), check_exact=True)
        warehouse.con.execute("INSERT INTO feature_due VALUES ('another ticker', $day, 'x')", {"day": DAYS[50]})
        assert_frame_equal(built(warehouse), whole, check_exact=True)


def test_outcomes_around_an_action_that_is_found_later_are_told_anew(tmp_path):
    first, correction = corrected_split(cutoff_at(DAYS[60]))
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", first)
        built(warehouse)
        crash = warehouse.con.sql("SELECT min(forward_return) AS low FROM label_daily").pl()["low"].item()
        put(warehouse, "raw_price", [correction])
        warehouse.con.execute("INSERT INTO feature_due VALUES ('raw_price', $day, 'x')", {"day": DAYS[60]})
        built(warehouse)
        mended = warehouse.con.sql("SELECT min(forward_return) AS low FROM label_daily").pl()["low"].item()
    assert (crash < -0.7, mended > -0.1) == (True, True)


def test_actions_of_a_ticker_that_never_traded_are_stored_once(tmp_path):
    rows = split_rows(halted=range(80))
    with hand_store(tmp_path, DAYS) as warehouse:
        put(warehouse, "raw_price", [*rows[:60], *(row | {"ticker": "000020"} for row in split_rows()[:60])])
        built(warehouse)
        put(warehouse, "raw_price", [*rows[60:], *(row | {"ticker": "000020"} for row in split_rows()[60:])])
        built(warehouse)
        counts = warehouse.con.sql("SELECT ticker, count(*) AS n FROM price_action GROUP BY ticker").pl()
    assert counts["n"].to_list() == [1] * counts.height


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """Features of one sample market, computed from its adjusted prices and from the exchange's own."""
    frames, found, labels, actions = sample_frames(tickers=60), {}, {}, None
    folder = write_folder(tmp_path_factory.mktemp("sample"), frames)
    newest = frames["prices"]["date"].max()
    for basis in ("adjusted", "raw"):
        settings = Settings(root=tmp_path_factory.mktemp(basis), price_basis=basis)
        with opened_run(settings, "test", at=cutoff_at(newest) + timedelta(days=1)) as run:
            ingest_files(run.warehouse, folder, load_mapping(), settings=settings, run=run)
            bring_up_to_date(run.warehouse, settings, run)
            found[basis] = run.warehouse.con.sql("FROM feature_daily ORDER BY ticker, as_of").pl()
            labels[basis] = run.warehouse.con.sql("FROM label_daily ORDER BY ticker, as_of").pl()
            actions = run.warehouse.con.sql("FROM price_action").pl()
    return found, labels, actions


def test_what_models_read_is_the_same_from_raw_prices_as_from_adjusted_ones(market):
    found, _, actions = market
    assert actions.height > 0, "the sample market has splits"
    raw, adjusted = found["raw"], found["adjusted"]
    assert_frame_equal(raw.select("ticker", "as_of"), adjusted.select("ticker", "as_of"))
    for feature in FEATURES:
        forms = {
            "per_close": pl.col(feature.name) / pl.col("close"),
            "close_over": pl.col("close") / pl.col(feature.name) - 1,
        }
        form = forms.get(feature.as_input, pl.col(feature.name)).cast(pl.Float64)
        got, want = raw.select(form).to_series(), adjusted.select(form).to_series()
        assert got.is_null().equals(want.is_null()), feature.name
        # Adjusted prices are rounded to won, raw ones to ticks: after a 50:1 split that is 1 % of a price.
        n_off = ((got - want).abs() > 0.02 * want.abs() + 0.02).sum()
        assert n_off <= 0.005 * raw.height, (feature.name, n_off)


def test_outcomes_are_the_same_from_raw_prices(market):
    _, labels, _ = market
    raw, adjusted = labels["raw"], labels["adjusted"]
    assert_frame_equal(raw.select("ticker", "as_of"), adjusted.select("ticker", "as_of"))
    assert ((raw["forward_return"] - adjusted["forward_return"]).abs() < 0.02).mean() > 0.995
