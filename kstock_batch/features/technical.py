"""Indicators of each series' bars; definitions in docs/features.md.

Recursive averages go on from carried values, rolling windows add up their own bars: a value depends on no more than its
definition names, and has the same bits in a nightly step as in a backfill over years.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from kstock_batch.features.matrix import (
    REACH,
    Matrix,
    Numbers,
    Vector,
    recursive_mean,
    rolling_max,
    rolling_sum,
    shifted,
    stacked,
)

ZERO_WIDTH = 1e-9  # of the price: bands narrower than rounding are no bands
SQUEEZE = 0.7
YEAR = 252

# Bars until a value exists: a window that is not full is null, not a guess.
FULL_WINDOW: dict[str, int] = {
    "rsi": 15,
    "bb_pctb": 20,
    "bb_bandwidth": 20,
    "macd_histogram": 35,
    "macd_signal_cross": 35,
    "atr_pct": 14,
    "ema_50": 50,
    "ema_200": 200,
    "golden_cross": 201,
    "dead_cross": 201,
    "volume_ratio": 20,
    "bb_squeeze": 39,
    "return_3m_pct": 61,
    "high_52w_ratio": 60,
    "high_20d_ratio": 20,
    "mtf_aligned": 200,
    "weekly_trend_up": 200,
}
PRICE_LEVELS = ("macd_histogram", "ema_50", "ema_200")  # in won: these carry the level of the price


@dataclass(frozen=True)
class Carried:
    """What each series' recursions stood at after its last bar before row W, (S,) float64; NaN = it had none.

    Attributes
    ----------
    n_bars : bars so far; 0, not NaN, for a series that begins
    ema_12 … loss : recursive averages of the close, its MACD signal, gains and losses
    ema_50_back_1 … 3 : ema_50 that many bars earlier
    """

    n_bars: Vector
    ema_12: Vector
    ema_26: Vector
    ema_50: Vector
    ema_50_back_1: Vector
    ema_50_back_2: Vector
    ema_50_back_3: Vector
    ema_200: Vector
    macd_signal: Vector
    gain: Vector
    loss: Vector

    @classmethod
    def nothing(cls, n_series: int) -> "Carried":
        """Return the state of series that begin."""
        unknown = np.full(n_series, np.nan)
        return cls(np.zeros(n_series), *([unknown] * (len(fields(cls)) - 1)))


@dataclass(frozen=True)
class Bars:
    """Bars of S series, each (B, S) float64: prices in one level a series, volume in shares of that level."""

    close: Matrix
    high: Matrix
    low: Matrix
    volume: Matrix

    @property
    def n_new(self) -> int:
        """How many rows are to be computed."""
        return len(self.close) - REACH


@dataclass(frozen=True)
class Recursions:
    """Recursive averages of the new bars, each (B - W, S)."""

    ema_12: Matrix
    ema_26: Matrix
    ema_50: Matrix
    ema_200: Matrix
    macd_signal: Matrix
    gain: Matrix
    loss: Matrix

    @classmethod
    def of(cls, bars: Bars, carried: Carried) -> "Recursions":
        """Return them from where they stood."""
        close = bars.close[REACH:]
        change = close - shifted(bars.close, 1, bars.n_new)
        if bars.n_new:
            # The first bar neither gains nor loses.
            change[0] = np.where((carried.n_bars == 0) & ~np.isnan(close[0]), 0.0, change[0])
        ema_12, ema_26, ema_50, ema_200 = (
            recursive_mean(close, 2 / (span + 1), value)
            for span, value in (
                (12, carried.ema_12),
                (26, carried.ema_26),
                (50, carried.ema_50),
                (200, carried.ema_200),
            )
        )
        return cls(
            ema_12,
            ema_26,
            ema_50,
            ema_200,
            recursive_mean(ema_12 - ema_26, 2 / 10, carried.macd_signal),
            recursive_mean(np.maximum(change, 0.0), 1 / 14, carried.gain),
            recursive_mean(np.maximum(-change, 0.0), 1 / 14, carried.loss),
        )

    def after(self, row: Numbers, carried: Carried) -> Carried:
        """Return what to carry on after matrix rows ``row`` (S,); W - 1 is where ``carried`` stands."""
        every, back = np.arange(len(row)), row - REACH + 1  # 0 = as carried
        at = {name: stacked([getattr(carried, name)], getattr(self, name))[back, every] for name in _AVERAGES}
        ema_50 = stacked(_last_four(carried), self.ema_50)
        ago = {f"ema_50_back_{n}": ema_50[back + 3 - n, every] for n in (1, 2, 3)}
        return Carried(carried.n_bars + back, **at, **ago)


_AVERAGES = tuple(field.name for field in fields(Recursions))


def indicators(bars: Bars, recursions: Recursions, carried: Carried) -> dict[str, NDArray[np.float32]]:
    """Return the technical features of the new bars, each (B - W, S) float32, NaN until its window is full.

    Won columns are in the level of the bars.
    """
    found = {**_bands(bars), **_macd(recursions, carried), **_trend(recursions, carried), **_ratios(bars)}
    found["rsi"] = _rsi(recursions)
    found["atr_pct"] = _atr_pct(bars)
    n_bars = carried.n_bars + np.arange(1, bars.n_new + 1)[:, None]
    with np.errstate(over="ignore"):
        return {
            name: np.where(n_bars >= full, found[name], np.nan).astype(np.float32) for name, full in FULL_WINDOW.items()
        }


def _bands(bars: Bars) -> dict[str, Matrix]:
    n_band = bars.n_new + 19  # the squeeze compares with the mean of the last 20 bandwidths
    close = shifted(bars.close, 0, n_band)
    sma = rolling_sum(bars.close, 20, n_band) / 20
    # Two passes: equal prices give exactly 0.
    squares = np.zeros_like(sma)
    for back in range(20):
        squares += (shifted(bars.close, back, n_band) - sma) ** 2
    sd = np.sqrt(squares / 19)
    width, bandwidth = 4 * sd, 4 * sd / sma
    with np.errstate(divide="ignore", invalid="ignore"):
        by_bands = (close - (sma - 2 * sd)) / width
    pctb = np.where(width > ZERO_WIDTH * sma, by_bands, np.where(sma > 0, 0.5, np.nan))
    squeeze = _flag(shifted(bandwidth, 0, bars.n_new) < SQUEEZE * (rolling_sum(bandwidth, 20, bars.n_new) / 20))
    return {"bb_pctb": pctb[19:], "bb_bandwidth": bandwidth[19:], "bb_squeeze": squeeze}


def _macd(recursions: Recursions, carried: Carried) -> dict[str, Matrix]:
    histogram = (recursions.ema_12 - recursions.ema_26) - recursions.macd_signal
    before = stacked([(carried.ema_12 - carried.ema_26) - carried.macd_signal], histogram)[:-1]
    up, down = (histogram > 0) & (before <= 0), (histogram < 0) & (before >= 0)
    return {"macd_histogram": histogram, "macd_signal_cross": _flag(up) - _flag(down)}


def _trend(recursions: Recursions, carried: Carried) -> dict[str, Matrix]:
    fast, slow = recursions.ema_50, recursions.ema_200
    fast_before, slow_before = stacked([carried.ema_50], fast)[:-1], stacked([carried.ema_200], slow)[:-1]
    four_bars_ago = stacked(_last_four(carried), fast)[:-4]
    is_up = (fast > slow) & (fast > four_bars_ago)
    return {
        "ema_50": fast,
        "ema_200": slow,
        "golden_cross": _flag((fast > slow) & (fast_before <= slow_before)),
        "dead_cross": _flag((fast < slow) & (fast_before >= slow_before)),
        "weekly_trend_up": _flag(is_up),
        "mtf_aligned": _flag(is_up),  # EMA50 > EMA200, which the other asks too
    }


def _ratios(bars: Bars) -> dict[str, Matrix]:
    n = bars.n_new
    close, volume = shifted(bars.close, 0, n), shifted(bars.volume, 0, n)
    usual = rolling_sum(bars.volume, 20, n) / 20
    with np.errstate(divide="ignore", invalid="ignore"):
        volume_ratio = np.where(usual > 0, volume / usual, np.nan)
    return {
        "volume_ratio": volume_ratio,
        "return_3m_pct": (close / shifted(bars.close, 60, n) - 1) * 100,
        "high_52w_ratio": close / rolling_max(bars.high, YEAR, n),
        "high_20d_ratio": close / rolling_max(bars.high, 20, n),
    }


def _rsi(recursions: Recursions) -> Matrix:
    gain, loss = recursions.gain, recursions.loss
    with np.errstate(divide="ignore", invalid="ignore"):
        by_wilder = 100 - 100 / (1 + gain / loss)
    return np.where(loss > 0, by_wilder, np.where(gain > 0, 100.0, 50.0))


def _atr_pct(bars: Bars) -> Matrix:
    n_range = bars.n_new + 13
    high, low, before = shifted(bars.high, 0, n_range), shifted(bars.low, 0, n_range), shifted(bars.close, 1, n_range)
    # fmax leaves out the close that the first bar has none of.
    true_range = np.fmax(high - low, np.fmax(np.abs(high - before), np.abs(low - before)))
    return rolling_sum(true_range, 14, bars.n_new) / 14 / shifted(bars.close, 0, bars.n_new) * 100


def _last_four(carried: Carried) -> list[Vector]:
    return [carried.ema_50_back_3, carried.ema_50_back_2, carried.ema_50_back_1, carried.ema_50]


def _flag(condition: NDArray[np.bool_]) -> Matrix:
    return condition.astype(np.float64)


def as_columns(carried: Carried) -> dict[str, Vector]:
    """Return the carried vectors by name."""
    return {field.name: getattr(carried, field.name) for field in fields(Carried)}
