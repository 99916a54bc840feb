"""What 20 bars tell in single numbers: how the tree members, which read one row, come to see a window.

Every value is a function of the window's own 20 bars, of the mean return of the market on their sessions, or of the
sector's mean on the last one, all counted anew for each window: it does not depend on where the rows begin that it
is computed from, so a night and a training set that holds that night agree to the bit.
"""

from collections.abc import Callable, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.features.windows import BarRows, FloatRows, RowNumbers

Floats = NDArray[np.float64]
Series = Mapping[str, Floats]  # name -> (N, T), oldest bar first; ``r`` is (N, T - 1), the returns between the bars

READ = ("close", "volume_ratio", "atr_pct", "bb_bandwidth", "rsi", "rs_percentile", "macd_histogram", "high_20d_ratio")
CHUNK = 50_000  # windows at once: some 80 MB of float64
RETURN_LIMIT = 0.3  # the exchange's daily limit; what exceeds it is a re-listing and would move a mean


def _back(x: Floats, bars: int) -> Floats:
    return x[:, -1 - bars]


def _return(bars: int) -> Callable[[Series], Floats]:
    return lambda w: w["close"][:, -1] / _back(w["close"], bars) - 1


def _change(name: str, bars: int) -> Callable[[Series], Floats]:
    return lambda w: w[name][:, -1] - _back(w[name], bars)


def _growth(name: str, bars: int) -> Callable[[Series], Floats]:
    return lambda w: w[name][:, -1] / _back(w[name], bars)


def _skewness(r: Floats) -> Floats:
    away = r - r.mean(axis=1, keepdims=True)
    skewness: Floats = (away**3).mean(axis=1) / (away**2).mean(axis=1) ** 1.5
    return skewness


def _beta(r: Floats, market: Floats) -> Floats:
    away = market - market.mean(axis=1, keepdims=True)
    slope: Floats = (away * r).mean(axis=1) / (away**2).mean(axis=1)
    return slope


def _autocorrelation(r: Floats) -> Floats:
    now, before = r[:, 1:], r[:, :-1]
    now, before = now - now.mean(axis=1, keepdims=True), before - before.mean(axis=1, keepdims=True)
    spread = np.sqrt((now**2).mean(axis=1) * (before**2).mean(axis=1))
    correlation: Floats = (now * before).mean(axis=1) / spread
    return correlation


# b = bars back; a summary over "19 returns" reads the whole window.
SUMMARIES: Mapping[str, Callable[[Series], Floats]] = {
    **{f"return_{b}b": _return(b) for b in (1, 2, 3, 5, 10, 19)},
    "volatility_5b": lambda w: np.log1p(w["r"][:, -5:]).std(axis=1),
    "volatility_19b": lambda w: np.log1p(w["r"]).std(axis=1),
    "residual_volatility_19b": lambda w: (w["r"] - w["market"]).std(axis=1),
    "highest_return_19b": lambda w: w["r"].max(axis=1),
    "highest_return_5b": lambda w: w["r"][:, -5:].max(axis=1),
    "lowest_return_19b": lambda w: w["r"].min(axis=1),
    "skewness_19b": lambda w: _skewness(w["r"]),
    "beta_19b": lambda w: _beta(w["r"], w["market"]),
    "autocorrelation_19b": lambda w: _autocorrelation(w["r"]),
    "rising_share_19b": lambda w: (w["r"] > 0).mean(axis=1),
    "rising_share_5b": lambda w: (w["r"][:, -5:] > 0).mean(axis=1),
    "flat_share_19b": lambda w: (np.abs(w["r"]) < 1e-9).mean(axis=1),
    "above_low_20b": lambda w: w["close"][:, -1] / w["close"].min(axis=1) - 1,
    **{f"volume_ratio_{b}b_ago": lambda w, b=b: _back(w["volume_ratio"], b) for b in (1, 2, 3, 5)},  # type: ignore[misc]
    "volume_ratio_highest_20b": lambda w: w["volume_ratio"].max(axis=1),
    "volume_ratio_mean_5b": lambda w: w["volume_ratio"][:, -5:].mean(axis=1),
    "volume_ratio_spread_20b": lambda w: w["volume_ratio"].std(axis=1),
    "return_by_volume_19b": lambda w: (w["r"] * w["volume_ratio"][:, 1:]).mean(axis=1),
    "return_by_volume_5b": lambda w: (w["r"][:, -5:] * w["volume_ratio"][:, -5:]).mean(axis=1),
    **{f"atr_growth_{b}b": _growth("atr_pct", b) for b in (5, 19)},
    **{f"bandwidth_growth_{b}b": _growth("bb_bandwidth", b) for b in (5, 19)},
    **{f"rsi_change_{b}b": _change("rsi", b) for b in (5, 19)},
    **{f"rs_percentile_change_{b}b": _change("rs_percentile", b) for b in (5, 19)},
    "macd_histogram_change_3b": lambda w: _change("macd_histogram", 3)(w) / w["close"][:, -1],
    "atr_highest_20b": lambda w: w["atr_pct"].max(axis=1),
    "atr_lowest_20b": lambda w: w["atr_pct"].min(axis=1),
    "atr_mean_20b": lambda w: w["atr_pct"].mean(axis=1),
    "high_20d_ratio_mean_5b": lambda w: w["high_20d_ratio"][:, -5:].mean(axis=1),
}
# Where the stock's sector stands that session, less the whole market: the mean over its stocks with a window.
SECTOR_MEANS: Mapping[str, tuple[str, float]] = {
    "sector_return_1b": ("return_1b", 0.3),
    "sector_return_5b": ("return_5b", 0.5),
    "sector_return_19b": ("return_19b", 0.8),
    "sector_atr": ("atr_pct", np.inf),
    "sector_volume_ratio": ("volume_ratio", np.inf),
}
SUMMARY_NAMES: tuple[str, ...] = (*SUMMARIES, *SECTOR_MEANS)


def summarise(bars: BarRows, rows: RowNumbers | None = None) -> FloatRows:
    """Return (rows, S) float32, S = SUMMARY_NAMES: NaN where no window ends or where the window lacks a value.

    ``bars`` must hold whole sessions, for the means of market and sector. ``rows``, ascending, are those to be told of
    (None = all): whole sessions, too.
    """
    ends = bars.window_ends()
    n_rows, place = bars.frame.height, ends
    if rows is not None:
        ends = ends[np.isin(ends, rows, assume_unique=True)]
        n_rows, place = len(rows), np.searchsorted(rows, ends)
    out = np.full((n_rows, len(SUMMARY_NAMES)), np.nan, dtype=np.float32)
    series = bars.values(READ)  # (rows, C)
    market = _market_return(bars)
    for start in range(0, len(ends), CHUNK):
        some = slice(start, start + CHUNK)
        out[place[some], : len(SUMMARIES)] = _of_windows(series, market, ends[some])
    own = {name: out[place, list(SUMMARY_NAMES).index(name)] for name, _ in SECTOR_MEANS.values() if name in SUMMARIES}
    own |= {name: series[ends, READ.index(name)] for name in ("atr_pct", "volume_ratio")}
    _, session = np.unique(bars.frame["session_number"].to_numpy()[ends], return_inverse=True)
    sector = np.nan_to_num(bars.values(["sector_encoded"])[ends, 0]).astype(np.int64)  # 0 = unknown
    for column, (name, limit) in enumerate(SECTOR_MEANS.values(), start=len(SUMMARIES)):
        out[place, column] = _sector_standing(np.clip(own[name], -limit, limit), session, sector)
    return out


def _of_windows(series: FloatRows, market: Floats, ends: RowNumbers) -> FloatRows:
    """Return (N, S) float32 of the windows ending on ``ends``."""
    at = ends[:, None] + np.arange(-19, 1)  # (N, T)
    windows = {name: series[at, column].astype(np.float64) for column, name in enumerate(READ)}
    close = windows["close"]
    windows["r"] = close[:, 1:] / close[:, :-1] - 1
    windows["market"] = market[at[:, 1:]]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.stack([summary(windows) for summary in SUMMARIES.values()], axis=1).astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return values


def _market_return(bars: BarRows) -> Floats:
    """Return (rows,): the mean return over the session before, of all stocks that traded on both."""
    same = (pl.col("ticker") == pl.col("ticker").shift(1)) & (pl.col("session_number").diff() == 1)
    change = pl.when(same).then(pl.col("close").cast(pl.Float64) / pl.col("close").shift(1) - 1)
    r = bars.frame.select(change.clip(-RETURN_LIMIT, RETURN_LIMIT).fill_null(float("nan"))).to_series().to_numpy()
    _, session = np.unique(bars.frame["session_number"].to_numpy(), return_inverse=True)
    return group_mean(r, session)


def group_mean(x: NDArray[np.floating], group: NDArray[np.int64]) -> Floats:
    """Return each row's mean of the known ``x`` (N,) over its ``group``, added up in the order of the rows."""
    known = ~np.isnan(x)
    total = np.bincount(group, np.where(known, x, 0.0))
    count = np.bincount(group, known)
    with np.errstate(invalid="ignore"):
        means: Floats = (total / count)[group]
    return means


def _sector_standing(x: FloatRows, session: NDArray[np.int64], sector: NDArray[np.int64]) -> FloatRows:
    """Return the mean over the session's sector less that over the session, (N,) float32."""
    group = session * (sector.max(initial=0) + 1) + sector
    standing: FloatRows = (group_mean(x, group) - group_mean(x, session)).astype(np.float32)
    return standing
