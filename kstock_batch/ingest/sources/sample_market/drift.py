"""The known weak signal: what a name's next return may be expected to be, from what its past shows."""

from __future__ import annotations

import numpy as np

from kstock_batch.ingest.sources.sample_market.roster import Bools
from kstock_batch.ingest.sources.sample_market.ticks import Floats

# Expected return of one session in idiosyncratic standard deviations, per unit of each part (parts lie in -1..1).
FLOW, REVERSAL, STRENGTH, VALUE = 0.110, 0.085, 0.045, 0.050
_BARS = 61  # return_3m_pct looks 60 bars back


class Past:
    """The bars each ticker has traded so far: split-adjusted closes (61, N) and foreign signs (5, N), newest last."""

    def __init__(self, n_tickers: int) -> None:
        self._closes = np.full((_BARS, n_tickers), np.nan)
        self._foreign = np.zeros((5, n_tickers))

    def observe(self, traded: Bools, close: Floats, split_ratio: Floats, foreign_sign: Floats) -> None:
        """Append one session; a name that did not trade gets no bar."""
        self._closes /= split_ratio
        self._closes[:-1, traded] = self._closes[1:, traded]
        self._closes[-1, traded] = close[traded]
        self._foreign[:-1, traded] = self._foreign[1:, traded]
        self._foreign[-1, traded] = foreign_sign[traded]

    def score(self, earnings_yield: Floats, live: Bools) -> Floats:
        """Return (N,) the expected next return in idiosyncratic deviations, centred over the live names."""
        parts = FLOW * self._foreign.mean(axis=0) + REVERSAL * self._reversal()
        parts = parts + STRENGTH * self._strength(live) + VALUE * _value(earnings_yield)
        # Uncentred, the parts would give the whole market a drift and the index a trend of its own.
        return np.where(live, parts - parts[live].mean() if live.any() else 0.0, 0.0)

    def _reversal(self) -> Floats:
        """Return 1 - 2 * bb_pctb, clipped to -1..1; 0 before 20 bars."""
        recent = self._closes[-20:]
        centre, width = recent.mean(axis=0), 2 * recent.std(axis=0, ddof=1)
        known = width > 1e-9 * centre  # False where NaN
        return np.where(known, -np.clip((recent[-1] - centre) / np.where(known, width, 1.0), -1, 1), 0.0)

    def _strength(self, live: Bools) -> Floats:
        """Return the rank of the 60-bar return among live names, -1 weakest to 1 strongest; 0 before 61 bars."""
        growth = self._closes[-1] / self._closes[0]
        known = np.flatnonzero(live & np.isfinite(growth))
        ranks = np.zeros(len(growth))
        if len(known) > 1:
            ranks[known[np.argsort(growth[known], kind="stable")]] = np.linspace(-1, 1, len(known))
        return ranks


def _value(earnings_yield: Floats) -> Floats:
    """Return cheapness, -1 (losing 5 % of its price a year) to 1 (earning 15 %); 0 where unknown."""
    return np.where(np.isnan(earnings_yield), 0.0, np.clip((earnings_yield - 0.05) / 0.10, -1, 1))
