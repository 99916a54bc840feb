"""Closes of every name on every session, drawn session by session, with the flows that go with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kstock_batch.ingest.sources.sample_market.drift import Past
from kstock_batch.ingest.sources.sample_market.roster import Bools, Ints, Roster
from kstock_batch.ingest.sources.sample_market.ticks import Floats, daily_limits, round_fairly
from kstock_batch.ingest.sources.sample_market.world import World, fat_tailed

_ARCH, _GARCH = 0.08, 0.89
_SECTOR_VOL = 0.0085
_QUIET = 0.05  # pressure below which foreigners or institutions end the day flat
_SPLIT_TEN = 5_000.0  # from here 1:10 keeps the price on the grid exactly; below it 10:1 does


@dataclass(frozen=True)
class Tape:
    """What the session-by-session drawing leaves behind; all arrays (T, N)."""

    close: Floats  # won, raw
    base: Floats  # won, raw: what the daily limit and the official change refer to
    shares: Floats
    traded: Bools
    split_exponent: Ints  # of ten, on the session the split takes effect
    volatility: Floats  # total, conditional, of the daily return
    foreign: Floats  # order pressure, 0 = flat
    institution: Floats


@dataclass(frozen=True)
class _Draws:
    """Every random number of the tape, drawn ahead so that the signal's strength changes none of them."""

    sector: Floats  # (T, N) return of each name's sector
    idio: Floats  # (T, N) unit shocks
    rounding: Floats  # (T, N) 0..1
    foreign: Floats  # (T, N) persistent plus passing pressure
    institution: Floats


def draw_tape(roster: Roster, world: World, trailing_income: Floats, seed: int, signal: float) -> Tape:
    """Return the tape; ``trailing_income`` (T, N) is what was known on each session, NaN if nothing."""
    shape = roster.halted.shape
    draws = _draw(roster, world, np.random.default_rng([seed, 4]))
    live = roster.live(shape[0])
    traded = live & ~roster.halted
    beta, load, idio_vol = (roster.floats(name) for name in ("beta", "sector_load", "idio_vol"))
    first, limit = roster.ints("first"), np.where(roster.table["market"].to_numpy() == "KONEX", 15.0, 30.0)
    close, base, volatility, foreign, institution = (np.zeros(shape) for _ in range(5))
    exponent = np.zeros(shape, dtype=np.int64)
    shares = roster.floats("shares").copy()
    held = np.zeros(shape)
    price, garch, past, score = roster.floats("offer"), np.ones(shape[1]), Past(shape[1]), np.zeros(shape[1])
    for t in range(shape[0]):
        exponent[t] = np.where(roster.split[t] & live[t], np.where(price >= _SPLIT_TEN, 1, -1), 0)
        ratio = 10.0 ** exponent[t]
        base[t] = np.where(exponent[t] > 0, price / 10, np.where(exponent[t] < 0, price * 10, price))
        shares = np.round(shares * ratio)
        own_vol = idio_vol * np.sqrt(garch) * np.exp(world.regime[t])
        sector_vol = load * _SECTOR_VOL * np.exp(world.regime[t])
        drift = np.where(t > first, signal * own_vol * score, 0.0)
        move = beta * world.market[t] + load * draws.sector[t] + own_vol * draws.idio[t] + drift
        low, high = daily_limits(base[t], limit)
        moved = np.clip(round_fairly(base[t] * (1 + np.clip(move, -0.5, 0.5)), draws.rounding[t]), low, high)
        price = np.where(traded[t], moved, base[t])
        volatility[t] = np.sqrt((beta * world.market_vol[t]) ** 2 + sector_vol**2 + own_vol**2)
        surprise = np.clip((price / base[t] - 1) / volatility[t], -4, 4)
        foreign[t] = _pressure(draws.foreign[t] + 0.30 * surprise, traded[t])
        institution[t] = _pressure(draws.institution[t] + 0.35 * surprise, traded[t])
        shock = np.clip(draws.idio[t], -4, 4) ** 2
        garch = np.where(traded[t], 1 - _ARCH - _GARCH + (_ARCH * shock + _GARCH) * garch, garch)
        close[t], held[t] = price, shares
        past.observe(traded[t], price, ratio, np.sign(foreign[t]))
        score = past.score(trailing_income[t] / (price * shares), live[t])
    return Tape(close, base, held, traded, exponent, volatility, foreign, institution)


def _draw(roster: Roster, world: World, rng: np.random.Generator) -> _Draws:
    n_sessions, n = roster.halted.shape
    sectors = sorted(set(roster.table["factor_sector"]))
    member = np.array([sectors.index(sector) for sector in roster.table["factor_sector"]])
    sector_return = _SECTOR_VOL * np.exp(world.regime)[:, None] * fat_tailed(rng, (n_sessions, len(sectors)))
    idio = fat_tailed(rng, (n_sessions, n))
    tickers = roster.table["ticker"].to_list()
    parent = np.array([tickers.index(ticker) for ticker in roster.table["parent"]])
    child = roster.table["kind"].to_numpy() == "pref"
    idio = np.where(child, 0.6 * idio[:, parent] + 0.8 * idio, idio)
    pressures = [_persistent(rng, n_sessions, n) for _ in range(2)]
    return _Draws(sector_return[:, member], idio, rng.random((n_sessions, n)), *pressures)


def _persistent(rng: np.random.Generator, n_sessions: int, n: int) -> Floats:
    """Return (T, N) order pressure of unit scale: an AR(1) campaign plus the day's noise."""
    campaign = np.sqrt(1 - 0.85**2) * rng.standard_normal((n_sessions, n))
    campaign[0] /= np.sqrt(1 - 0.85**2)
    for t in range(1, n_sessions):
        campaign[t] += 0.85 * campaign[t - 1]
    return np.asarray(0.75 * campaign + 0.6 * rng.standard_normal((n_sessions, n)))


def _pressure(raw: Floats, traded: Bools) -> Floats:
    return np.where(traded & (np.abs(raw) > _QUIET), raw, 0.0)
