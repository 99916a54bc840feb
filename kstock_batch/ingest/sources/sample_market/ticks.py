"""The KRX price grid: tick sizes and the prices a daily limit allows, for arrays of won of any shape."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kstock_batch.market.ticks import ONE_GRID

Floats = npt.NDArray[np.float64]

_BOUNDS = np.array([start for start, _ in reversed(ONE_GRID)][1:], dtype=np.float64)
_TICKS = np.array([step for _, step in reversed(ONE_GRID)], dtype=np.float64)


def tick_size(price: Floats) -> Floats:
    """Return the tick in won that applies at ``price``."""
    return _TICKS[np.searchsorted(_BOUNDS, price, side="right")]


def round_down(price: Floats) -> Floats:
    """Return the highest grid price not above ``price``."""
    tick = tick_size(price)
    return np.asarray(np.floor(price / tick) * tick)


def round_up(price: Floats) -> Floats:
    """Return the lowest grid price not below ``price``."""
    tick = tick_size(price)
    return np.asarray(np.ceil(price / tick) * tick)


def round_fairly(price: Floats, uniform: Floats) -> Floats:
    """Return a grid neighbour of ``price`` whose expectation over ``uniform`` (0..1) is ``price`` itself.

    Rounding to the nearest tick would leave an error that the next session undoes, a reversal one could trade.
    """
    tick = tick_size(price)
    return np.asarray(np.floor(price / tick + uniform) * tick)


def daily_limits(base: Floats, percent: Floats) -> tuple[Floats, Floats]:
    """Return the lowest and highest grid price within ``percent`` of ``base``."""
    return round_up(base * (100 - percent) / 100), round_down(base * (100 + percent) / 100)
