"""The world outside the stocks: US markets, the won, interest rates, and the Korean market factor they move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl

from kstock_batch.ingest.sources.sample_market.ticks import Floats

_US_HOLIDAYS = {(1, 1), (6, 19), (7, 4), (12, 25)}
_LEAD_DAYS = 372  # US history before the first session
_US_SPILLOVER = 0.35


@dataclass(frozen=True)
class World:
    """Macro series, and per session (T,): the market factor's return, its volatility, the log volatility regime."""

    macro: pl.DataFrame  # date, series, close
    market: Floats
    market_vol: Floats
    regime: Floats


def fat_tailed(rng: np.random.Generator, shape: int | tuple[int, ...]) -> Floats:
    """Return symmetric shocks of unit variance with Student-t(5) tails."""
    return np.asarray(rng.standard_t(5, shape) * np.sqrt(3 / 5))


def draw_world(sessions: Sequence[date], seed: int) -> World:
    """Return the world whose US sessions end on the last Korean one."""
    rng = np.random.default_rng([seed, 2])
    days = [sessions[0] + timedelta(k) for k in range(-_LEAD_DAYS, (sessions[-1] - sessions[0]).days + 1)]
    weekdays = [day for day in days if day.weekday() < 5]
    us_days = [day for day in weekdays if (day.month, day.day) not in _US_HOLIDAYS]
    us_return, log_vix = _united_states(rng, len(us_days))
    # A US session dated T closes after Korea's T: only what is dated before T can move it.
    seen = np.searchsorted(np.array(us_days, "datetime64[D]"), np.array(sessions, "datetime64[D]")) - 1  # (T,)
    cumulative = np.cumsum(us_return)
    spill = np.diff(cumulative[seen], prepend=cumulative[seen[0] - 1])
    regime = 0.6 * log_vix[seen] + _ar1(rng, len(sessions), 0.97, 0.04)
    own_vol = 0.0075 * np.exp(regime)
    market = _US_SPILLOVER * spill + own_vol * fat_tailed(rng, len(sessions))
    # America grows; Korea gets the surprises alone, or betas would differ in what they may be expected to earn.
    trend, tech = 0.0003 * np.arange(len(us_days)), rng.standard_normal(len(us_days))
    series = {
        "SP500": (us_days, 4_500 * np.exp(cumulative + trend)),
        "NASDAQ": (us_days, 14_000 * np.exp(1.15 * cumulative + trend + np.cumsum(0.004 * tech))),
        "VIX": (us_days, np.maximum(16.5 * np.exp(log_vix), 9.0)),
        "US10Y": (weekdays, np.maximum(4.2 + np.cumsum(0.05 * rng.standard_normal(len(weekdays))), 0.3)),
        "USDKRW": (weekdays, 1_340 * np.exp(np.cumsum(0.0045 * rng.standard_normal(len(weekdays))))),
        "FEDFUNDS": (days, 4.33 - 0.25 * np.floor(np.linspace(0, 4, len(days)))),
    }
    macro = pl.concat(
        pl.DataFrame({"date": dates, "series": [name] * len(dates), "close": np.round(close, 2)})
        for name, (dates, close) in series.items()
    )
    spill_vol = _US_SPILLOVER * 0.009 * np.exp(log_vix[seen])
    return World(macro, market, np.sqrt(own_vol**2 + spill_vol**2), regime)


def _united_states(rng: np.random.Generator, n: int) -> tuple[Floats, Floats]:
    """Return log returns of the S&P 500 and the log VIX around its mean, both (n,); losses raise volatility."""
    shock, other = fat_tailed(rng, n), rng.standard_normal(n)
    log_vix = np.zeros(n)
    for t in range(1, n):
        log_vix[t] = 0.97 * log_vix[t - 1] + 0.07 * (0.7 * other[t] - 0.7 * np.clip(shock[t], -4, 4))
    before = np.concatenate([[0.0], log_vix[:-1]])
    return 0.009 * np.exp(before) * shock, log_vix


def _ar1(rng: np.random.Generator, n: int, persistence: float, scale: float) -> Floats:
    values = scale * rng.standard_normal(n)
    for t in range(1, n):
        values[t] += persistence * values[t - 1]
    return np.asarray(values)
