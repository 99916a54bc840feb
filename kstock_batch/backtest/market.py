"""The market as a grid: one row a session, one column a stock, and in which mood it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.backtest.costs import SETTLEMENT, sales_tax
from kstock_batch.judging.metrics import Floats, Integers

DAILY_LIMIT = 0.295  # the exchange's 30 % less the widest tick
MOOD = 20  # sessions by which the market's mood is told
MOODS = ("calm", "usual", "stormy")


@dataclass(frozen=True)
class Market:
    """Prices of S sessions and K stocks, in each stock's own level.

    Attributes
    ----------
    sessions, tickers : S and K names
    open, last_close : (S, K); the last close is that of the newest bar so far, NaN before the first
    before : (S, K) the last close of the session before
    traded : (S, K) whether it traded that session
    usual_value : (S, K) mean won traded over the last 20 sessions, those without trade included
    gone_on : (K,) number of the first session after a delisting, S where there is none
    tax : (S, K) on a sale, as a share of the amount
    """

    sessions: Sequence[date]
    tickers: Sequence[str]
    open: Floats
    last_close: Floats
    before: Floats
    traded: NDArray[np.bool_]
    usual_value: Floats
    gone_on: Integers
    tax: Floats

    @classmethod
    def of(cls, bars: pl.DataFrame, listing: pl.DataFrame, calendar: Sequence[date]) -> "Market":
        """Return the grid of ``bars`` (sql/backtest/bar.sql), with markets and last days of ``listing``."""
        sessions, tickers = bars["session"].unique().sort().to_list(), bars["ticker"].unique().sort().to_list()
        row = bars["session"].replace_strict(sessions, np.arange(len(sessions)), return_dtype=pl.Int64).to_numpy()
        column = bars["ticker"].replace_strict(tickers, np.arange(len(tickers)), return_dtype=pl.Int64).to_numpy()

        def grid(name: str, empty: float) -> Floats:
            values = np.full((len(sessions), len(tickers)), empty)
            values[row, column] = bars[name].cast(pl.Float64).to_numpy()
            return values

        close = _carried(grid("close", np.nan))
        before = np.vstack([np.full((1, len(tickers)), np.nan), close[:-1]])
        facts = pl.DataFrame({"ticker": tickers}).join(listing, on="ticker", how="left", maintain_order="left")
        return cls(
            sessions=sessions,
            tickers=tickers,
            open=grid("open", np.nan),
            last_close=close,
            before=before,
            traded=grid("volume", 0.0) > 0,
            usual_value=_trailing_mean(grid("traded_value", 0.0), MOOD),
            gone_on=_gone_on(facts["last_seen"].to_list(), row, column, sessions),
            tax=_taxes(facts["market"].to_list(), sessions, calendar),
        )

    def columns(self, tickers: pl.Series) -> Integers:
        """Return the columns of ``tickers``, which must all be there."""
        found: Integers = tickers.replace_strict(
            self.tickers, np.arange(len(self.tickers)), return_dtype=pl.Int64
        ).to_numpy()
        return found

    def returns(self) -> Floats:
        """Return the mean return (S,) of the stocks that traded, none counted beyond the daily limit."""
        with np.errstate(invalid="ignore"):
            each = np.where(self.traded, np.clip(self.last_close / self.before - 1, -0.3, 0.3), np.nan)
        known = ~np.isnan(each)
        mean: Floats = np.where(known, each, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return mean


def moods(market: Market, sessions: Sequence[date]) -> pl.DataFrame:
    """Return as_of, trend and mood of ``sessions``: known that night, but for where the thirds begin.

    trend: "up" where the market's mean stock gained over 20 sessions, else "down". mood: by the standard deviation of
    its daily returns over 20 sessions, in thirds of the sessions asked for.
    """
    daily = market.returns()
    number = {day: at for at, day in enumerate(market.sessions)}
    windows = [daily[max(0, number[day] - MOOD + 1) : number[day] + 1] for day in sessions]
    gained = np.array([np.prod(1 + window) - 1 for window in windows])
    spread = np.array([window.std() for window in windows])
    thirds = np.argsort(np.argsort(spread, kind="stable"), kind="stable") * 3 // max(len(spread), 1)
    return pl.DataFrame(
        {
            "as_of": list(sessions),
            "trend": ["up" if gain > 0 else "down" for gain in gained],
            "mood": [MOODS[third] for third in thirds],
        }
    )


def _carried(values: Floats) -> Floats:
    """Return the last known value down each column."""
    place = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    carried: Floats = np.take_along_axis(values, np.maximum.accumulate(place, axis=0), axis=0)
    return carried


def _trailing_mean(values: Floats, window: int) -> Floats:
    total = np.cumsum(values, axis=0)
    total[window:] -= np.cumsum(values, axis=0)[:-window]
    mean: Floats = total / np.minimum(np.arange(1, len(values) + 1), window)[:, None]
    return mean


def _gone_on(last_seen: Sequence[date | None], row: Integers, column: Integers, sessions: Sequence[date]) -> Integers:
    """Return the first session without a bar of each stock that was delisted, and printed none since."""
    last_bar = np.zeros(len(last_seen), dtype=np.int64)
    np.maximum.at(last_bar, column, row)
    is_gone = np.array([day is not None and day < sessions[-1] for day in last_seen], dtype=bool)
    found: Integers = np.where(is_gone & (last_bar < len(sessions) - 1), last_bar + 1, len(sessions))
    return found


def _taxes(markets: Sequence[str | None], sessions: Sequence[date], calendar: Sequence[date]) -> Floats:
    place = {day: at for at, day in enumerate(calendar)}
    names = sorted({market or "KOSPI" for market in markets})
    settled = [calendar[min(place[day] + SETTLEMENT, len(calendar) - 1)] for day in sessions]
    rates = np.array([[sales_tax(name, day) for name in names] for day in settled])
    taxes: Floats = rates[:, [names.index(market or "KOSPI") for market in markets]]
    return taxes
