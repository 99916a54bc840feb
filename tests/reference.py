"""The 30 features a second time: plain numpy and pandas, a ticker and a bar at a time, slow on purpose.

Written from docs/features.md alone, with nothing of ``kstock_batch.features`` imported: where both say the same, two
readings of the definitions agree. It reads a source folder's files, so that ingest stands between the two as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from kstock_batch.market.sectors import SECTOR_CODES

Frames = dict[str, pd.DataFrame]
Columns = dict[str, np.ndarray]

CUTOFF = pd.Timedelta(hours=18, minutes=30)  # all times here are Seoul's
PRINTED_AT = pd.Timedelta(hours=15, minutes=45)
US_KNOWN_AFTER = pd.Timedelta(days=1, hours=7)
FX_KNOWN_AFTER = pd.Timedelta(days=2)
FILING_DAYS, CAP_DAYS, PER_DAYS, MACRO_DAYS = 400, 365, 45, 10

POLICY_2026 = {"금융": 15, "지주사": 10, "보험": 10, "자동차": 12, "반도체": 5, "헬스케어": 5}


def read_frames(folder: Path) -> Frames:
    """Return the files of a source folder by stem, their days as midnights."""
    frames = {path.stem: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
    for frame in frames.values():
        for name in frame.columns.intersection(["date", "period_end", "available_from"]):
            frame[name] = pd.to_datetime(frame[name]).astype("datetime64[ns]")
    return frames


def reference(frames: Frames) -> pd.DataFrame:
    """Return feature_daily as the definitions have it: one row a ticker and bar, 64-bit floats, NaN = unknown."""
    prices = sound(frames["prices"])
    sessions = pd.DatetimeIndex(sorted(prices["date"].unique()))
    tables = [_ticker_rows(frames, rows, sessions) for _, rows in prices.groupby("ticker", sort=True)]
    rows = pd.concat([table for table in tables if len(table)], ignore_index=True)
    rows = rows.merge(market_wide(frames["macro"], sessions), on="as_of", how="left", validate="m:1")
    rows["rs_percentile"] = rs_percentile(rows)
    return rows.sort_values(["as_of", "ticker"], ignore_index=True)


def sound(prices: pd.DataFrame) -> pd.DataFrame:
    """Return the price rows a store may hold; a suspension printed with zeros stands at its close."""
    prices = prices.sort_values(["ticker", "date"])
    numbers = {name: prices[name].to_numpy(float) for name in ("open", "high", "low", "close", "volume")}
    zeros = (numbers["volume"] == 0) & (numbers["open"] == 0) & (numbers["high"] == 0) & (numbers["low"] == 0)
    for name in ("open", "high", "low"):
        numbers[name] = np.where(zeros, numbers["close"], numbers[name])
    top = np.maximum(numbers["open"], numbers["close"])
    bottom = np.minimum(numbers["open"], numbers["close"])
    possible = (numbers["low"] > 0) & (numbers["high"] >= top) & (numbers["low"] <= bottom) & (numbers["volume"] >= 0)
    return prices.assign(**numbers)[possible]


def _ticker_rows(frames: Frames, prices: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    ticker = prices["ticker"].iloc[0]
    bars = prices[prices["volume"] > 0]
    days = pd.DatetimeIndex(bars["date"])
    own = {name: frame[frame["ticker"] == ticker] for name, frame in frames.items() if "ticker" in frame}
    listed = Listed.of(own["listings"])
    columns = indicators(*(bars[name].to_numpy() for name in ("high", "low", "close", "volume")))
    flows = own.get("flows", own.get("flows_sample"))
    rows = pd.DataFrame({"ticker": ticker, "as_of": days, "close": bars["close"].to_numpy()} | columns)
    rows["bars_available"] = np.arange(1, len(bars) + 1)
    for investor in ("foreign", "institution"):
        rows[f"{investor}_net_buy_days"] = buy_days(_on(days, flows, f"{investor}_net"))
    for name, values in fundamentals(own, prices, days).items():
        rows[name] = values
    rows["sector_encoded"] = float(SECTOR_CODES.get(listed.sector, 0))
    rows["policy_bonus"] = [policy_bonus(listed, day) for day in days]
    rows["is_scoreable"] = listed.is_common & is_dense(days, sessions) & (rows["bars_available"] >= 60)
    return rows


# Who a ticker is


@dataclass(frozen=True)
class Listed:
    """What the listing says of a ticker."""

    sector: str | None
    market: str | None
    is_common: bool

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Listed:
        """Read the one row of a ticker; flags left out follow from the name and the code."""
        if rows.empty:
            return cls(None, None, False)
        row = rows.iloc[0]
        is_spac = "스팩" in row["name"] if pd.isna(row["is_spac"]) else bool(row["is_spac"])
        is_preferred = row["ticker"][-1] != "0" if pd.isna(row["is_pref"]) else bool(row["is_pref"])
        on_board = row["market"] in ("KOSPI", "KOSDAQ")
        return cls(row["sector"], row["market"], on_board and not is_spac and not is_preferred)


def is_dense(days: pd.DatetimeIndex, sessions: pd.DatetimeIndex) -> np.ndarray:
    """Return whether the last 20 bars span at most 40 sessions."""
    number = sessions.get_indexer(days)
    return np.array([i >= 19 and number[i] - number[i - 19] + 1 <= 40 for i in range(len(days))], dtype=bool)


def policy_bonus(listed: Listed, day: pd.Timestamp) -> float:
    """Return the closed form of the 2026 calendar: 5 for all, 5 for KOSDAQ, the sector's points, at most 20."""
    if day.year != 2026:
        return 0.0
    return float(min(20, 5 + 5 * (listed.market == "KOSDAQ") + POLICY_2026.get(listed.sector, 0)))


# Indicators: arrays of one ticker's bars, oldest first


def ewm(x: np.ndarray, a: float) -> np.ndarray:
    """Return y0 = x0, yi = (1-a)·y(i-1) + a·xi."""
    y = np.array(x, dtype=float)
    for i in range(1, len(y)):
        y[i] = (1 - a) * y[i - 1] + a * x[i]
    return y


def ema(x: np.ndarray, span: int) -> np.ndarray:
    return ewm(x, 2 / (span + 1))


def rolling(x: np.ndarray, n: int, summary: Callable[..., np.ndarray]) -> np.ndarray:
    """Return ``summary`` of each bar's last ``n`` values; NaN while there are fewer, and where one of them is."""
    result = np.full(len(x), nan)
    if len(x) >= n:
        result[n - 1 :] = summary(np.lib.stride_tricks.sliding_window_view(x, n), axis=1)
    return result


def lagged(x: np.ndarray, n: int) -> np.ndarray:
    """Return the values ``n`` bars ago, NaN where there was no such bar."""
    return np.array([x[i - n] if i >= n else nan for i in range(len(x))])


def rsi(close: np.ndarray) -> np.ndarray:
    moves = np.diff(close, prepend=close[:1])
    gain, loss = ewm(np.maximum(moves, 0), 1 / 14), ewm(np.maximum(-moves, 0), 1 / 14)
    values = []
    for g, el in zip(gain, loss, strict=True):
        values.append(100 - 100 / (1 + g / el) if el > 0 else 100.0 if g > 0 else 50.0)
    return np.array(values)


def true_range(high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    before = lagged(close, 1)
    return np.nanmax([high - low, np.abs(high - before), np.abs(low - before)], axis=0)


def crossed_above(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the bars on which x > y and on the bar before x <= y."""
    return (x > y) & (lagged(x, 1) <= lagged(y, 1))


def indicators(high: np.ndarray, low: np.ndarray, close: np.ndarray, volume: np.ndarray) -> Columns:
    """Return features 0 … 16 of one ticker, NaN until the window is full."""
    n, zero = len(close), np.zeros(len(close))
    if n == 0:
        return {}
    ema_50, ema_200 = ema(close, 50), ema(close, 200)
    line = ema(close, 12) - ema(close, 26)
    histogram = line - ema(line, 9)
    mean, sd = rolling(close, 20, np.mean), rolling(close, 20, partial(np.std, ddof=1))
    upper, lower = mean + 2 * sd, mean - 2 * sd
    width = upper - lower
    has_width = width > 1e-9 * mean
    pctb = np.divide(close - lower, width, out=np.full(n, 0.5), where=has_width)
    bandwidth = width / mean
    is_uptrend = (ema_50 > ema_200) & (ema_50 > lagged(ema_50, 4))
    mean_volume = rolling(volume, 20, np.mean)
    yearly_high = np.array([high[max(0, i - 251) : i + 1].max() for i in range(n)])
    found = {
        "rsi": (15, rsi(close)),
        "bb_pctb": (20, pctb),
        "bb_bandwidth": (20, bandwidth),
        "macd_histogram": (35, histogram),
        "macd_signal_cross": (35, 1 * crossed_above(histogram, zero) - 1 * crossed_above(-histogram, zero)),
        "atr_pct": (14, rolling(true_range(high, low, close), 14, np.mean) / close * 100),
        "ema_50": (50, ema_50),
        "ema_200": (200, ema_200),
        "golden_cross": (201, crossed_above(ema_50, ema_200)),
        "dead_cross": (201, crossed_above(ema_200, ema_50)),
        "volume_ratio": (20, volume / mean_volume),  # a bar has volume, so the mean is never 0
        "bb_squeeze": (39, bandwidth < 0.7 * rolling(bandwidth, 20, np.mean)),
        "return_3m_pct": (61, (close / lagged(close, 60) - 1) * 100),
        "high_52w_ratio": (60, close / yearly_high),
        "high_20d_ratio": (20, close / rolling(high, 20, np.max)),
        "mtf_aligned": (200, is_uptrend & (ema_50 > ema_200)),
        "weekly_trend_up": (200, is_uptrend),
    }
    is_bar = np.arange(1, n + 1)
    return {name: np.where(is_bar >= needed, values.astype(float), nan) for name, (needed, values) in found.items()}


def buy_days(nets: np.ndarray) -> np.ndarray:
    """Return #(net > 0) - #(net < 0) of the last five bars, unknown unless all five are known."""
    return rolling(np.where(nets > 0, 1.0, np.where(nets < 0, -1.0, nets)), 5, np.sum)


def _on(days: pd.DatetimeIndex, rows: pd.DataFrame | None, column: str) -> np.ndarray:
    if rows is None:
        return np.full(len(days), nan)
    return rows.set_index("date")[column].reindex(days).to_numpy(float)


# The session as a whole


def rs_percentile(rows: pd.DataFrame) -> pd.Series:
    """Return 100·(N - rank)/(N - 1) among the session's scoreable names, rank 1 = the highest return, ties the best."""
    result = pd.Series(nan, index=rows.index)
    among = rows[rows["is_scoreable"] & rows["return_3m_pct"].notna()]
    for _, returns in among.groupby("as_of")["return_3m_pct"]:
        values = returns.to_numpy()
        rank = 1 + (values[None, :] > values[:, None]).sum(axis=1)
        if len(values) >= 2:
            result[returns.index] = 100 * (len(values) - rank) / (len(values) - 1)
    return result


def market_wide(macro: pd.DataFrame, sessions: pd.DatetimeIndex) -> pd.DataFrame:
    """Return vix, spx_change_pct, usdkrw and regime_encoded of each session."""
    vix, spx, fx = (_series(macro, name) for name in ("VIX", "SP500", "USDKRW"))
    rows = []
    for day in sessions:
        level, _ = last_known(vix, day, US_KNOWN_AFTER)
        _, spx_change = last_known(spx, day, US_KNOWN_AFTER)
        rate, fx_change = last_known(fx, day, FX_KNOWN_AFTER)
        rows.append((day, level, spx_change, rate, regime(spx_change, level, fx_change)))
    return pd.DataFrame(rows, columns=["as_of", "vix", "spx_change_pct", "usdkrw", "regime_encoded"])


def _series(macro: pd.DataFrame, name: str) -> pd.Series:
    rows = macro[macro["series"] == name].sort_values("date")
    return pd.Series(rows["close"].to_numpy(), index=pd.DatetimeIndex(rows["date"]))


def last_known(series: pd.Series, day: pd.Timestamp, known_after: pd.Timedelta) -> tuple[float, float]:
    """Return the last close known on the evening of ``day`` and its change over the one before in percent."""
    at = series.index.searchsorted(day + CUTOFF - known_after, side="right") - 1
    if at < 0 or day + CUTOFF - (series.index[at] + known_after) > pd.Timedelta(days=MACRO_DAYS):
        return nan, nan
    value = series.iloc[at]
    return value, (value / series.iloc[at - 1] - 1) * 100 if at > 0 else nan


def regime(spx_change: float, vix: float, fx_change: float) -> float:
    if np.isnan([spx_change, vix, fx_change]).any():
        return nan
    alarms = sum(map(int, (spx_change < -1, vix > 25, fx_change > 0.5)))
    if alarms >= 2:
        return 0.0
    return 2.0 if alarms == 0 and vix < 18 and spx_change > 0 else 1.0


# What companies file and the exchange prints


@dataclass(frozen=True)
class Filing:
    """One report of a company; ``income`` since the start of its fiscal year."""

    period_end: pd.Timestamp
    known_on: pd.Timestamp
    income: float
    equity: float
    liabilities: float
    printed_debt_ratio: float

    @property
    def closes_a_year(self) -> bool:
        """Say whether the law gave it 90 days and not 45."""
        return (self.known_on - self.period_end).days > 60

    @property
    def debt_ratio(self) -> float:
        """Return liabilities over equity, or the printed figure where one of them is unknown."""
        if np.isnan([self.liabilities, self.equity]).any():
            return self.printed_debt_ratio
        return self.liabilities / self.equity * 100 if self.equity else nan


def filings_of(rows: pd.DataFrame) -> list[Filing]:
    names = ["period_end", "available_from", "net_income_ytd", "equity", "liabilities", "debt_ratio"]
    return [Filing(*row) for row in rows.sort_values("period_end")[names].itertuples(index=False)]


def four_quarters(known: list[Filing]) -> float:
    """Return the net income of the last four reported quarters: this year so far + last year - last year as far."""
    latest, years = known[-1], [filing for filing in known if filing.closes_a_year]
    if latest.closes_a_year:
        return latest.income if _is_whole_year(latest, years) else nan
    past = [year for year in years if (latest.period_end - year.period_end).days < 360]
    a_year_ago = latest.period_end - pd.DateOffset(years=1)
    as_far = [f for f in known if not f.closes_a_year and abs((f.period_end - a_year_ago).days) <= 3]
    if not past or not as_far or not _is_whole_year(past[-1], years):
        return nan
    return latest.income + past[-1].income - as_far[-1].income


def _is_whole_year(year: Filing, years: list[Filing]) -> bool:
    """Say that no other year ended within the twelve months before: half-year «years» are known by the second one."""
    gaps = [(year.period_end - other.period_end).days for other in years if other.period_end < year.period_end]
    return not gaps or min(gaps) > 360


def fundamentals(own: Frames, prices: pd.DataFrame, days: pd.DatetimeIndex) -> Columns:
    """Return per, roe, debt_ratio and market_cap_log of one ticker's bars."""
    closes = pd.Series(prices["close"].to_numpy(), index=pd.DatetimeIndex(prices["date"]))
    caps = pd.concat([own[name][["date", "market_cap"]] for name in ("official_rows", "market_caps_weekly")])
    cap = moved(caps.drop_duplicates("date"), "market_cap", closes, days, CAP_DAYS)
    printed = moved(own["valuation_monthly"], "per", closes, days, PER_DAYS)
    filings = filings_of(own["financials"])
    income = latest([(f.known_on, four_quarters(filings[: i + 1])) for i, f in enumerate(filings)], days)
    equity = latest([(f.known_on, f.equity) for f in filings], days)
    with np.errstate(divide="ignore"):
        per = np.where(np.isnan(printed), cap / income, printed)
        return {
            "per": np.where((per > 0) & np.isfinite(per), per, nan),
            "roe": np.where(equity == 0, nan, income / equity * 100),
            "debt_ratio": latest([(f.known_on, f.debt_ratio) for f in filings], days),
            "market_cap_log": np.log10(cap),
        }


def latest(facts: list[tuple[pd.Timestamp, float]], days: pd.DatetimeIndex) -> np.ndarray:
    """Return on each day the newest fact that is known and is a number, NaN once it is too old."""
    result, evenings = np.full(len(days), nan), days + CUTOFF
    for known_on, value in facts:
        if not np.isnan(value):
            is_too_old = evenings - known_on > pd.Timedelta(days=FILING_DAYS)
            result[evenings >= known_on] = np.where(is_too_old, nan, value)[evenings >= known_on]
    return result


def moved(rows: pd.DataFrame, column: str, closes: pd.Series, days: pd.DatetimeIndex, max_days: int) -> np.ndarray:
    """Return on each day the last printed figure times what the adjusted close has moved by since it was printed."""
    rows = rows[rows["date"].isin(closes.index)].sort_values("date", ignore_index=True)
    if rows.empty:
        return np.full(len(days), nan)
    at = pd.DatetimeIndex(rows["date"]).searchsorted(days, side="right") - 1
    printed_on, figure = pd.DatetimeIndex(rows["date"])[at.clip(0)], rows[column].to_numpy(float)[at.clip(0)]
    is_fresh = (at >= 0) & (days + CUTOFF - (printed_on + PRINTED_AT) <= pd.Timedelta(days=max_days))
    since = closes.reindex(days).to_numpy() / closes.reindex(printed_on).to_numpy()
    return np.where(is_fresh, figure * since, nan)
