"""Open, high, low, volume and order flows around closes that are already decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kstock_batch.ingest.sources.sample_market.roster import Roster
from kstock_batch.ingest.sources.sample_market.tape import Tape
from kstock_batch.ingest.sources.sample_market.ticks import Floats, daily_limits, round_down, round_up, tick_size

_OVERNIGHT = 0.25  # share of a session's variance that falls before the open


@dataclass(frozen=True)
class Bars:
    """All (T, N), raw won and shares; a session without trade has volume 0 and all four prices at the last close."""

    open: Floats
    high: Floats
    low: Floats
    volume: Floats
    amount: Floats
    foreign_net: Floats
    institution_net: Floats
    foreign_holding_pct: Floats


def draw_bars(tape: Tape, roster: Roster, seed: int) -> Bars:
    """Return bars whose prices lie on the grid and inside the daily limits."""
    rng = np.random.default_rng([seed, 5])
    shape = tape.close.shape
    open_, high, low = _intraday(rng, tape, np.where(roster.table["market"].to_numpy() == "KONEX", 15.0, 30.0))
    surprise = np.abs(tape.close / np.where(tape.base > 0, tape.base, 1.0) - 1) / tape.volatility
    mood = 0.5 * rng.standard_normal(shape)
    for t in range(1, shape[0]):
        mood[t] += 0.7 * mood[t - 1]
    turnover = roster.floats("turnover") * np.exp(mood + 0.35 * np.minimum(surprise, 5))
    volume = np.where(tape.traded, np.maximum(np.round(np.minimum(turnover, 1.0) * tape.shares), 1.0), 0.0)
    foreign, institution = _net(tape.foreign, volume), _net(tape.institution, volume)
    held = rng.gamma(1.2, 8.0, shape[1]) + 100 * np.cumsum(foreign / tape.shares, axis=0)
    return Bars(
        open=open_,
        high=high,
        low=low,
        volume=volume,
        amount=np.round(volume * (open_ + high + low + tape.close) / 4),
        foreign_net=foreign,
        institution_net=institution,
        foreign_holding_pct=np.asarray(np.round(np.clip(held, 0, 100), 2), dtype=np.float64),
    )


def _intraday(rng: np.random.Generator, tape: Tape, limit: Floats) -> tuple[Floats, Floats, Floats]:
    """Return open, high and low: a Brownian path from base to close, its extremes drawn exactly."""
    base, shape = np.maximum(tape.base, 1.0), tape.close.shape
    total = np.log(np.maximum(tape.close, 1.0) / base)  # (T, N)
    # A calm day's spread understates a day that moved far: half of what happened is told by the move itself.
    spread = np.sqrt(0.5 * tape.volatility**2 + 0.5 * np.minimum(total**2, 0.02))
    gap = _OVERNIGHT * total + np.sqrt(_OVERNIGHT * (1 - _OVERNIGHT)) * spread * rng.standard_normal(shape)
    rest, variance = total - gap, (1 - _OVERNIGHT) * spread**2
    above = (rest + np.sqrt(rest**2 - 2 * variance * np.log1p(-rng.random(shape)))) / 2
    below = (rest - np.sqrt(rest**2 - 2 * variance * np.log1p(-rng.random(shape)))) / 2
    lowest, highest = daily_limits(base, limit)
    start = base * np.exp(gap)
    open_ = np.clip(np.floor(start / tick_size(start) + 0.5) * tick_size(start), lowest, highest)
    high = np.maximum(np.minimum(round_up(start * np.exp(above)), highest), np.maximum(open_, tape.close))
    low = np.minimum(np.maximum(round_down(start * np.exp(below)), lowest), np.minimum(open_, tape.close))
    kept = tape.traded
    return np.where(kept, open_, tape.close), np.where(kept, high, tape.close), np.where(kept, low, tape.close)


def _net(pressure: Floats, volume: Floats) -> Floats:
    """Return net shares bought; the sign is the pressure's, never rounded away."""
    size = np.maximum(np.round(volume * np.minimum(0.10 * np.abs(pressure), 0.4)), 1.0)
    return np.asarray(np.where(volume > 0, np.sign(pressure) * size, 0.0) + 0.0)  # + 0.0: no negative zeros
