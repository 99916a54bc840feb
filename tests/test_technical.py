"""Indicators of hand-made and golden series: definitions, full windows, flat prices, no look-ahead."""

from datetime import date, datetime, timedelta
from math import sin
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kstock_batch.features.matrix import REACH, Layout
from kstock_batch.features.technical import FULL_WINDOW, Bars, Carried, Recursions, indicators

FIRST = date(2020, 1, 1)
GOLDEN = pl.read_csv(Path(__file__).parent / "golden" / "indicators.csv")


def with_indicators(frame):
    """Return the features of bars sorted by (ticker, session), computed from the first one on."""
    n = frame["ticker"].n_unique()
    layout = Layout.of(frame["ticker"].rle_id().to_numpy().astype(np.int64), np.full(frame.height, True), n)
    side_by_side = Bars(*(layout.spread(frame[name]) for name in ("close", "high", "low", "volume")))
    nothing = Carried.nothing(n)
    found = indicators(side_by_side, Recursions.of(side_by_side, nothing), nothing)
    columns = {name: pl.Series(layout.gather(values)).fill_nan(None) for name, values in found.items()}
    return frame.select("ticker", "session", "close", bars_available=pl.Series(layout.row - REACH + 1)).with_columns(
        **columns
    )


def bars(closes, *, highs=None, lows=None, volumes=None, ticker="000010"):
    n = len(closes)
    return pl.DataFrame(
        {
            "ticker": [ticker] * n,
            "session": [FIRST + timedelta(days=i) for i in range(n)],
            "cutoff_at": [datetime(2020, 1, 1, 9, 30) + timedelta(days=i) for i in range(n)],
            "open": [float(c) for c in closes],
            "high": [float(x) for x in (closes if highs is None else highs)],
            "low": [float(x) for x in (closes if lows is None else lows)],
            "close": [float(c) for c in closes],
            "volume": [float(v) for v in ([1000] * n if volumes is None else volumes)],
        }
    )


def golden_bars(n):
    closes = [round(50000 * (1 + 0.08 * sin(i / 9)) + 20 * i) for i in range(n)]
    return bars(
        closes,
        highs=[c + 300 + 10 * (i % 7) for i, c in enumerate(closes)],
        lows=[c - 250 - 10 * (i % 5) for i, c in enumerate(closes)],
        volumes=[100000 + 5000 * (i % 11) + (20000 if i % 17 == 0 else 0) for i in range(n)],
    )


def last(frame):
    return with_indicators(frame).sort("ticker", "session").row(-1, named=True)


@pytest.mark.parametrize("row", GOLDEN.to_dicts(), ids=lambda row: f"{row['n']}-bars")
def test_a_history_of_n_bars_gives_the_golden_values(row):
    got = last(golden_bars(row["n"]))
    for name, wanted in row.items():
        if name == "n":
            assert got["bars_available"] == wanted
        elif wanted is None:
            assert got[name] is None, f"{name} must be null before its window is full"
        else:
            assert got[name] == pytest.approx(wanted, rel=2e-5), name


def test_the_golden_series_has_its_events_on_the_listed_bars_and_on_no_others():
    frame = with_indicators(golden_bars(320)).filter(pl.col("bars_available").is_between(201, 320))

    def bars_where(condition):
        return frame.filter(condition)["bars_available"].to_list()

    assert bars_where(pl.col("macd_signal_cross") == 1) == [217, 274]
    assert bars_where(pl.col("macd_signal_cross") == -1) == [245, 302]
    squeezed = [*range(218, 226), *range(246, 256), *range(275, 282), *range(303, 312)]
    assert bars_where(pl.col("bb_squeeze") == 1) == squeezed
    assert bars_where(pl.col("golden_cross") == 1) == []
    assert bars_where(pl.col("dead_cross") == 1) == []


@pytest.mark.parametrize(("name", "needed"), sorted(FULL_WINDOW.items()))
def test_a_value_exists_from_the_bar_that_fills_its_window_and_not_before(name, needed):
    frame = golden_bars(needed)
    known = [float(i % 3 - 1) for i in range(needed)]
    frame = frame.with_columns(foreign_net=pl.Series(known), institution_net=pl.Series(known))
    values = with_indicators(frame)[name].to_list()
    assert values[-1] is not None
    assert values[:-1] == [None] * (needed - 1)


def test_prices_that_never_move_give_the_middle_of_the_bands_and_a_neutral_rsi():
    got = last(bars([12345] * 60))
    assert (got["rsi"], got["bb_pctb"], got["bb_bandwidth"], got["atr_pct"]) == (50, 0.5, 0, 0)


def test_prices_that_stop_moving_after_a_wild_past_leave_bands_of_exactly_no_width():
    wild = [50000 + (-1) ** i * 977 * (i % 13) for i in range(100)]
    got = last(bars([*wild, *[51234] * 20]))
    assert (got["bb_pctb"], got["bb_bandwidth"]) == (0.5, 0)


def test_prices_that_only_rise_have_an_rsi_of_100():
    assert last(bars(range(1000, 1060)))["rsi"] == 100


@pytest.mark.parametrize(("moves_by", "cross", "crosses"), [(64, 1, "golden_cross"), (-64, -1, "dead_cross")])
def test_what_was_exactly_level_crosses_on_the_bar_that_moves_and_is_no_event_before(moves_by, cross, crosses):
    # A power of two: its averages are it, to the last bit.
    frame = with_indicators(bars([16384] * 210 + [16384 + moves_by] * 2))
    events = ["macd_signal_cross", "golden_cross", "dead_cross", "weekly_trend_up", "mtf_aligned", "bb_squeeze"]
    is_up = int(moves_by > 0)
    moved = dict.fromkeys(events, 0) | {"weekly_trend_up": is_up, "mtf_aligned": is_up}
    assert frame.select(events).row(209, named=True) == dict.fromkeys(events, 0)
    assert frame.select(events).row(210, named=True) == moved | {"macd_signal_cross": cross, crosses: 1}
    assert frame.select(events).row(211, named=True) == moved


def test_a_golden_cross_is_one_bar_and_not_a_state():
    closes = [10000 - 20 * i for i in range(230)] + [5400 + 150 * i for i in range(120)]
    frame = with_indicators(bars(closes))
    assert frame["golden_cross"].sum() == 1
    above = frame.filter(pl.col("ema_50") > pl.col("ema_200"))
    assert above.height > 20
    assert frame.filter(pl.col("golden_cross") == 1)["session"].item() == above["session"].min()


def test_volume_ratio_includes_today():
    got = last(bars([1000] * 20, volumes=[100] * 19 + [500]))
    assert got["volume_ratio"] == pytest.approx(500 / (2400 / 20))


def wandering_bars(seed, n):
    rng = np.random.default_rng(seed)
    closes = np.round(20_000 * np.exp(np.cumsum(rng.normal(0, 0.03, n))))
    spread = rng.uniform(0, 0.03, (2, n)) * closes
    volumes = rng.integers(1, 10_000, n)
    return bars(closes, highs=closes + spread[0], lows=closes - spread[1], volumes=volumes)


# 320 bars, so that the longest windows are full on both sides of most cuts: with short series a leak through a
# 50-bar average stayed unseen.
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 319))
def test_features_of_a_bar_do_not_change_by_a_bit_when_later_bars_arrive(seed, cut):
    whole = wandering_bars(seed, 320)
    assert_frame_equal(with_indicators(whole.head(cut)), with_indicators(whole).head(cut), check_exact=True)


@settings(max_examples=20, deadline=None)
@given(closes=st.lists(st.integers(500, 90_000), min_size=62, max_size=80), split=st.sampled_from([2, 5, 10, 50]))
def test_a_later_split_changes_no_scale_free_feature(closes, split):
    before = with_indicators(bars(closes))
    after = with_indicators(bars([c / split for c in closes], volumes=[1000 * split] * len(closes)))
    for name in ("rsi", "bb_pctb", "bb_bandwidth", "atr_pct", "volume_ratio", "return_3m_pct", "high_52w_ratio"):
        assert_frame_equal(before.select(name), after.select(name), rel_tol=1e-5, abs_tol=1e-4)
    for name in ("macd_histogram", "ema_50"):
        ratio = pl.col(name) / pl.col("close")
        assert_frame_equal(before.select(ratio), after.select(ratio), rel_tol=1e-4, abs_tol=1e-5)


def test_tickers_do_not_see_each_other_and_their_order_is_irrelevant():
    one, two = bars(range(1000, 1070), ticker="000010"), bars(range(9000, 9070), ticker="000020")
    alone = with_indicators(one)
    together = with_indicators(pl.concat([two, one]).sample(fraction=1, shuffle=True, seed=3).sort("ticker", "session"))
    assert_frame_equal(alone, together.filter(pl.col("ticker") == "000010"), check_exact=True)
