"""The embedded sample market: a seeded stand-in for the Korean exchange, in the file shapes of the real panel.

All names and numbers are invented. The sessions are an argument; nothing here reads a clock or a calendar.

How a price is made (t = session, i = name; s.t5 = Student-t(5) scaled to unit variance; symmetric, independent)::

    regime_t   = 0.6 log(VIX / 16.5), last US session dated before t, + AR(1; 0.97, 0.04)      (VIX before its floor)
    market_t   = 0.35 (S&P 500 log return since session t-1, less its trend) + 0.0075 exp(regime_t) s.t5
    sector_kt  = 0.0085 exp(regime_t) s.t5
    own_vol_it = idio_vol_i sqrt(g_it) exp(regime_t),  g_(t+1) = 0.03 + 0.08 e^2 g + 0.89 g   (e = own shock, |e| <= 4)
    move_it    = beta_i market_t + load_i sector_kt + own_vol_it e_it + signal * own_vol_it * S_i(t-1)
    close_it   = base_it (1 + move_it), rounded to the tick grid at random without bias, clipped to +-30 % (KONEX 15 %)

**The known signal**, in own standard deviations per session, from what the 30 features show at t-1::

    S = 0.110 F + 0.085 R + 0.045 M + 0.050 V   minus its mean over the listed names
    F = foreign_net_buy_days / 5
    R = 1 - 2 bb_pctb, clipped to -1..1                                    (0 before 20 bars)
    M = 2 rs_percentile / 100 - 1, ranked over all listed names            (0 before 61 bars)
    V = ((1/per) - 0.05) / 0.10 clipped to -1..1, losses included          (0 where nothing was filed)

With ``signal=0`` every close is a martingale up to the clipping at the limits: symmetric shocks, unbiased rounding,
no drift, and halts, splits, listings and delistings decided before the first price. Flows follow the same day's
return and their own past at any signal. What remains predictable then is volatility, as on every market; and as
"+3 %" is likelier for a volatile name, AUC inside volatility quintiles stays at 0.505-0.525 (seeds 7-9, 300 x 800,
LightGBM, purged) while the rank correlation with returns is 0 +- 0.01; with ``signal=1`` they are 0.565 and 0.09.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path

import polars as pl

from kstock_batch.ingest.sources.sample_market.bars import draw_bars
from kstock_batch.ingest.sources.sample_market.panel import Panel
from kstock_batch.ingest.sources.sample_market.roster import MIN_TICKERS, draw_roster
from kstock_batch.ingest.sources.sample_market.statements import draw_statements, statements_frame
from kstock_batch.ingest.sources.sample_market.tape import draw_tape
from kstock_batch.ingest.sources.sample_market.world import draw_world

MIN_SESSIONS = 60


@dataclass(frozen=True)
class SampleMarket:
    """Frames by file stem, each sorted by its grain."""

    frames: dict[str, pl.DataFrame]

    def write(self, folder: Path) -> None:
        """Make ``folder`` hold one parquet file per frame; the same frames give the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        for stem, frame in self.frames.items():
            # Renamed into place, so that a killed run leaves no half file to be ingested.
            part = folder / f".{stem}.parquet.part"
            frame.write_parquet(part, compression="zstd")
            os.replace(part, folder / f"{stem}.parquet")


def generate(sessions: Sequence[date], *, n_tickers: int = 300, seed: int = 7, signal: float = 1.0) -> SampleMarket:
    """Return a market of ``n_tickers`` names over ``sessions`` (oldest first); same arguments, same bytes."""
    _require_usable(sessions, n_tickers)
    world, roster = draw_world(sessions, seed), draw_roster(len(sessions), n_tickers, seed)
    statements = draw_statements(roster, sessions, seed)
    income = statements.known(statements.trailing_net_income(), sessions)
    tape = draw_tape(roster, world, income, seed, signal)
    panel = Panel(sessions, roster, tape, draw_bars(tape, roster, seed), statements)
    return SampleMarket(
        {
            "prices": panel.prices(),
            "listings": panel.listings(),
            "official_rows": panel.official_rows(),
            "market_caps_weekly": panel.market_caps_weekly(),
            "financials": statements_frame(statements, roster, sessions),
            "valuation_monthly": panel.valuation_monthly(),
            "macro": pl.concat([world.macro, panel.indices()]).sort("date", "series"),
            "flows": panel.flows(),
            "market_investor_net": panel.market_investor_net(),
        }
    )


def _require_usable(sessions: Sequence[date], n_tickers: int) -> None:
    if n_tickers < MIN_TICKERS or len(sessions) < MIN_SESSIONS:
        raise ValueError(f"{n_tickers} tickers x {len(sessions)} sessions: need {MIN_TICKERS} x {MIN_SESSIONS} or more")
    if any(later <= earlier for earlier, later in pairwise(sessions)):
        raise ValueError("sessions must be strictly increasing")
