"""What 20 bars come to: each summary against plain Python, and the same numbers wherever they are computed from."""

import itertools
import math
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from statistics import fmean, pstdev

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstock_batch.features.windows import BarRows
from kstock_batch.learners import window_summaries
from kstock_batch.learners.window_summaries import READ, SECTOR_MEANS, SUMMARIES, SUMMARY_NAMES, group_mean, summarise

FIRST = date(2024, 1, 2)
LIMIT = window_summaries.RETURN_LIMIT


def market(n_tickers: int, n_sessions: int, *, halts: float = 0.0, missing: float = 0.0, seed: int = 3) -> pl.DataFrame:
    """Rows of feature_daily: closes that walk, days without a bar, values that are not known, four sectors."""
    rng = np.random.default_rng(seed)
    n = n_tickers * n_sessions
    steps = rng.normal(0, 0.03, (n_tickers, n_sessions)) + rng.normal(0, 0.01, n_sessions)
    steps[rng.random(steps.shape) < 0.1] = 0.0
    day = np.tile(np.arange(n_sessions), n_tickers)
    frame = {
        "ticker": np.repeat([f"{i:06d}" for i in range(n_tickers)], n_sessions),
        "as_of": [FIRST + timedelta(days=int(d)) for d in day],
        "session_number": day + 100,
        "close": (rng.uniform(1e3, 1e5, (n_tickers, 1)) * np.exp(np.cumsum(steps, axis=1))).ravel(),
        "sector_encoded": np.repeat(np.arange(n_tickers) % 4, n_sessions).astype(np.float32),
    }
    for name in READ[1:]:
        values = np.exp(rng.normal(size=n)) if name != "macd_histogram" else 100 * rng.normal(size=n)
        frame[name] = np.where(rng.random(n) < missing, np.nan, values)
    floats = pl.col(READ).cast(pl.Float32).fill_nan(None)
    return pl.DataFrame(frame).filter(pl.Series(rng.random(n) >= halts)).with_columns(floats)


def whole(frame: pl.DataFrame, since: int = 0) -> pl.DataFrame:
    """Summaries with their keys, of the sessions from number ``since`` on."""
    bars = BarRows.of(frame)
    told = summarise(bars, bars.rows_since(since) if since else None)
    keys = bars.frame.select("ticker", "session_number").filter(pl.col("session_number") >= since)
    return keys.hstack(pl.DataFrame(told, schema=list(SUMMARY_NAMES)))


def same_bits(one: pl.DataFrame, other: pl.DataFrame) -> None:
    assert one.select("ticker", "session_number").equals(other.select("ticker", "session_number"))
    columns = list(SUMMARY_NAMES)
    np.testing.assert_array_equal(one[columns].to_numpy().view(np.int32), other[columns].to_numpy().view(np.int32))


# Each summary, as one would say it


def market_returns(frame: pl.DataFrame) -> dict[int, float]:
    """Session -> the mean return of the stocks that traded on it and on the session before."""
    close = {(t, s): c for t, s, c in frame.select("ticker", "session_number", "close").rows()}
    found: dict[int, list[float]] = {}
    for (ticker, session), now in close.items():
        if (before := close.get((ticker, session - 1))) is not None:
            found.setdefault(session, []).append(max(-LIMIT, min(LIMIT, now / before - 1)))
    return {session: fmean(returns) for session, returns in found.items()}


def covariance(x: Sequence[float], y: Sequence[float]) -> float:
    return fmean((a - fmean(x)) * (b - fmean(y)) for a, b in zip(x, y, strict=True))


def in_plain_python(w: dict[str, list[float]], m: list[float]) -> dict[str, float]:
    """The summaries of one window ``w`` (name -> 20 values), ``m`` = the market's 19 returns."""
    close, volume = w["close"], w["volume_ratio"]
    r = [now / before - 1 for before, now in itertools.pairwise(close)]
    logs = [math.log(1 + x) for x in r]
    mean, sd = fmean(r), pstdev(r)
    return {
        **{f"return_{b}b": close[-1] / close[-1 - b] - 1 for b in (1, 2, 3, 5, 10, 19)},
        "volatility_5b": pstdev(logs[-5:]),
        "volatility_19b": pstdev(logs),
        "residual_volatility_19b": pstdev([x - y for x, y in zip(r, m, strict=True)]),
        "highest_return_19b": max(r),
        "highest_return_5b": max(r[-5:]),
        "lowest_return_19b": min(r),
        "skewness_19b": fmean([(x - mean) ** 3 for x in r]) / sd**3,
        "beta_19b": covariance(m, r) / covariance(m, m),
        "autocorrelation_19b": covariance(r[1:], r[:-1]) / (pstdev(r[1:]) * pstdev(r[:-1])),
        "rising_share_19b": sum(x > 0 for x in r) / 19,
        "rising_share_5b": sum(x > 0 for x in r[-5:]) / 5,
        "flat_share_19b": sum(x == 0 for x in r) / 19,
        "above_low_20b": close[-1] / min(close) - 1,
        **{f"volume_ratio_{b}b_ago": volume[-1 - b] for b in (1, 2, 3, 5)},
        "volume_ratio_highest_20b": max(volume),
        "volume_ratio_mean_5b": fmean(volume[-5:]),
        "volume_ratio_spread_20b": pstdev(volume),
        "return_by_volume_19b": fmean([x * v for x, v in zip(r, volume[1:], strict=True)]),
        "return_by_volume_5b": fmean([x * v for x, v in zip(r[-5:], volume[-5:], strict=True)]),
        **{f"atr_growth_{b}b": w["atr_pct"][-1] / w["atr_pct"][-1 - b] for b in (5, 19)},
        **{f"bandwidth_growth_{b}b": w["bb_bandwidth"][-1] / w["bb_bandwidth"][-1 - b] for b in (5, 19)},
        **{f"rsi_change_{b}b": w["rsi"][-1] - w["rsi"][-1 - b] for b in (5, 19)},
        **{f"rs_percentile_change_{b}b": w["rs_percentile"][-1] - w["rs_percentile"][-1 - b] for b in (5, 19)},
        "macd_histogram_change_3b": (w["macd_histogram"][-1] - w["macd_histogram"][-4]) / close[-1],
        "atr_highest_20b": max(w["atr_pct"]),
        "atr_lowest_20b": min(w["atr_pct"]),
        "atr_mean_20b": fmean(w["atr_pct"]),
        "high_20d_ratio_mean_5b": fmean(w["high_20d_ratio"][-5:]),
    }


@pytest.mark.parametrize("halts", [0.0, 0.15])
def test_every_summary_is_what_its_name_says(halts):
    frame = market(8, 45, halts=halts)
    of_market, seen = market_returns(frame), whole(frame)
    n_checked = 0
    for ticker, rows in frame.partition_by("ticker", as_dict=True).items():
        for end in range(19, rows.height):
            bars = rows[end - 19 : end + 1]
            last = bars["session_number"][-1]
            told = seen.row(
                by_predicate=(pl.col("ticker") == ticker[0]) & (pl.col("session_number") == last), named=True
            )
            m = [of_market[session] for session in bars["session_number"][1:]]
            plain = in_plain_python({name: bars[name].to_list() for name in READ}, m)
            assert plain.keys() == SUMMARIES.keys()
            assert {name: told[name] for name in plain} == pytest.approx(plain, rel=2e-5, abs=2e-6)
            n_checked += 1
    assert n_checked > 80


def test_a_sectors_standing_is_its_mean_less_that_of_the_market():
    seen = whole(frame := market(10, 22)).join(
        BarRows.of(frame).frame.select("ticker", "session_number", "sector_encoded", "atr_pct", "volume_ratio"),
        on=["ticker", "session_number"],
    )
    night = seen.filter(pl.col("session_number") == 121)
    for name, (of, limit) in SECTOR_MEANS.items():
        clipped = night[of].clip(-limit, limit)
        for sector in range(4):
            mask = night["sector_encoded"] == sector
            expected = clipped.filter(mask).mean() - clipped.mean()
            assert night[name].filter(mask).to_list() == pytest.approx([expected] * mask.sum(), rel=1e-4, abs=1e-6)


def test_a_relisting_at_a_hundredfold_price_moves_neither_market_nor_sector():
    calm = market(10, 25)
    jumped = calm.with_columns(
        pl.when((pl.col("ticker") == "000003") & (pl.col("session_number") >= 123))
        .then(pl.col("close") * 100)
        .otherwise("close")
        .alias("close")
    )
    others = pl.col("ticker") != "000003"
    before, after = whole(calm).filter(others), whole(jumped).filter(others)
    assert after["residual_volatility_19b"].drop_nans().max() < 0.1
    assert (before["sector_return_1b"] - after["sector_return_1b"]).abs().max() < LIMIT


# The same number wherever it is computed from


def test_forty_sessions_and_years_give_the_same_bits():
    """A window may span forty sessions: a night reads no more of the past than that."""
    frame = market(15, 130, halts=0.12, missing=0.02)
    newest = pl.col("session_number") == 229
    last_forty = frame.filter(pl.col("session_number") > 229 - 40)
    years = whole(frame).filter(newest)
    assert years["return_19b"].is_not_nan().sum() > 10
    same_bits(whole(last_forty, since=229).filter(newest), years)


@pytest.mark.parametrize("chunk", [1, 7, 50_000])
def test_the_size_of_the_chunks_changes_no_bit(chunk, monkeypatch):
    frame = market(6, 40, halts=0.1, missing=0.02)
    at_once = whole(frame)
    monkeypatch.setattr(window_summaries, "CHUNK", chunk)
    same_bits(whole(frame), at_once)


@given(cut=st.integers(20, 44), seed=st.integers(0, 5))
def test_later_rows_change_nothing_of_earlier_ones(cut, seed):
    frame, is_past = market(7, 45, halts=0.1, seed=seed), pl.col("session_number") < 100 + cut
    rng = np.random.default_rng(seed + 100)
    noise = pl.Series(rng.uniform(0.5, 2, frame.height))
    other = frame.with_columns(pl.when(is_past).then(pl.col(n)).otherwise(pl.col(n) * noise).alias(n) for n in READ)
    same_bits(whole(other).filter(is_past), whole(frame).filter(is_past))
    same_bits(whole(frame.filter(is_past)), whole(frame).filter(is_past))


def test_the_order_of_the_rows_changes_no_bit():
    frame = market(6, 30, halts=0.1)
    same_bits(whole(frame.sample(fraction=1.0, shuffle=True, seed=1)), whole(frame))


def test_another_price_scale_of_a_stock_changes_nothing():
    frame = market(6, 30)
    of_one = pl.when(pl.col("ticker") == "000002").then(7.0).otherwise(1.0).cast(pl.Float32)
    restated = frame.with_columns(pl.col("close", "macd_histogram") * of_one)
    columns = list(SUMMARY_NAMES)
    one, other = whole(frame)[columns].to_numpy(), whole(restated)[columns].to_numpy()
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_windows_before_since_are_left_out_and_those_after_are_the_same():
    """One stock stops before ``since`` and the next one is new: what the first one had is not told of the second."""
    stock, number = pl.col("ticker"), pl.col("session_number")
    market_ = market(6, 40)
    stops, new = market_["ticker"].unique().sort()[1:3]
    frame = market_.filter(~((stock == stops) & (number >= 130)) & ~((stock == new) & (number < 125)))
    every, late = whole(frame), whole(frame, since=130)
    assert late.filter(stock == new)["return_19b"].is_nan().all()
    assert late["return_19b"].is_not_nan().sum() == late.height - late.filter(stock == new).height > 0
    same_bits(late, every.filter(number >= 130))


# Where there is nothing to say


def constant(names: Sequence[str]) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(
        pl.when(pl.col("ticker") == "000001").then(pl.lit(5.0, dtype=pl.Float32)).otherwise(pl.col(n)).alias(n)
        for n in names
    )


def test_a_stock_that_stood_still_has_no_skewness_and_no_autocorrelation_but_a_beta_of_zero():
    seen = whole(constant(READ)(market(6, 25))).filter(
        (pl.col("ticker") == "000001") & (pl.col("session_number") > 118)
    )
    for name in ("skewness_19b", "autocorrelation_19b"):
        assert seen[name].is_nan().all(), name
    expected = {"beta_19b": 0, "return_19b": 0, "volatility_19b": 0, "flat_share_19b": 1, "volume_ratio_spread_20b": 0}
    for name, value in expected.items():
        assert seen[name].to_list() == [value] * seen.height, name


def test_a_market_that_stood_still_has_no_beta():
    frame = market(5, 21).with_columns(close=pl.lit(1000.0, dtype=pl.Float32))
    assert whole(frame).filter(pl.col("session_number") == 120)["beta_19b"].is_nan().all()


def test_growth_from_nothing_is_unknown_not_infinite():
    was_nothing = pl.col("session_number") == 115
    frame = market(5, 21).with_columns(atr_pct=pl.when(was_nothing).then(0.0).otherwise("atr_pct"))
    seen = whole(frame).filter(pl.col("session_number") == 120)
    assert seen["atr_growth_5b"].is_nan().all()
    assert not np.isinf(seen[list(SUMMARY_NAMES)].to_numpy()).any()


def test_an_unknown_value_silences_only_the_summaries_that_read_it():
    frame = market(5, 21)
    at = (pl.col("ticker") == "000001") & (pl.col("session_number") == 110)  # ten bars back
    gap = frame.with_columns(volume_ratio=pl.when(at).then(None).otherwise("volume_ratio"))
    last = pl.col("session_number") == 120
    before, after = whole(frame).filter(last), whole(gap).filter(last)
    silenced = {n for n in SUMMARY_NAMES if after[n].is_nan().any()}
    assert silenced == {"volume_ratio_highest_20b", "volume_ratio_spread_20b", "return_by_volume_19b"}
    kept = [name for name in SUMMARY_NAMES if name not in silenced]
    np.testing.assert_array_equal(before[kept].to_numpy(), after[kept].to_numpy())


def test_too_few_bars_or_bars_too_far_apart_give_nothing():
    assert np.isnan(summarise(BarRows.of(market(4, 19)))).all()
    sparse = market(4, 60).filter((pl.col("session_number") % 3 == 0) | (pl.col("ticker") != "000002"))
    assert np.isnan(whole(sparse).filter(pl.col("ticker") == "000002")[list(SUMMARY_NAMES)].to_numpy()).all()
    assert summarise(BarRows.of(market(2, 2).clear())).shape == (0, len(SUMMARY_NAMES))


def test_a_stock_of_no_known_sector_stands_with_the_others_of_none():
    frame = market(8, 21)
    unknown = pl.col("ticker").is_in(["000001", "000002"])
    coded, absent = (
        frame.with_columns(sector_encoded=pl.when(unknown).then(code).otherwise(pl.col("sector_encoded") + 1))
        for code in (pl.lit(0.0), pl.lit(None))
    )
    same_bits(whole(coded), whole(absent))


def test_a_group_of_which_nothing_is_known_has_no_mean():
    means = group_mean(np.array([1.0, np.nan, 3.0, np.nan]), np.array([0, 0, 0, 1]))
    np.testing.assert_array_equal(means, [2.0, 2.0, 2.0, np.nan])
