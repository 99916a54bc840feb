"""Indicators of one ticker's bars, as polars expressions; definitions in docs/features.md.

Each expression is evaluated within one ticker, bars oldest first. Rolling sums add up their own window and carry
nothing from before it, so a value depends on no more history than its definition names, to the last bit.
"""

from collections.abc import Sequence

import polars as pl

_C, _H, _L, _V = pl.col("close"), pl.col("high"), pl.col("low"), pl.col("volume")

ZERO_WIDTH = 1e-9  # of the price: bands narrower than rounding are no bands
SQUEEZE = 0.7
YEAR = 252


def with_indicators(bars: pl.DataFrame) -> pl.DataFrame:
    """Return ticker, session, cutoff_at, close, bars_available and the technical and flow features of each bar.

    ``bars`` is sorted by (ticker, session); the features are float32. A step may use the columns of those before it:
    what several indicators share is computed once.
    """
    frame = bars.lazy()
    for step in _steps():
        frame = frame.with_columns(expr.over("ticker", order_by="session").alias(name) for name, expr in step.items())
    full = (
        pl.when(pl.col("bars_available") >= bars_needed).then(name).cast(pl.Float32).alias(name)
        for name, bars_needed in FULL_WINDOW.items()
    )
    return frame.select("ticker", "session", "cutoff_at", "close", "bars_available", *full).collect()


def _steps() -> Sequence[dict[str, pl.Expr]]:
    return (
        {
            "bars_available": pl.int_range(1, pl.len() + 1, dtype=pl.Int32),
            "sma_20": _mean(_C, 20),
            "true_range": _true_range(),
            "macd_line": _ema(_C, 12) - _ema(_C, 26),
            "ema_50": _ema(_C, 50),
            "ema_200": _ema(_C, 200),
        },
        {
            "sd_20": _sd_20(),
            "rsi": _rsi(14),
            "macd_histogram": pl.col("macd_line") - _ema(pl.col("macd_line"), 9),
            "atr_pct": _mean(pl.col("true_range"), 14) / _C * 100,
            "volume_ratio": _ratio_to_positive(_V, _mean(_V, 20)),
            "return_3m_pct": (_C / _C.shift(60) - 1) * 100,
            "high_52w_ratio": _C / _H.rolling_max(YEAR, min_samples=1),
            "high_20d_ratio": _C / _H.rolling_max(20, min_samples=20),
            "foreign_net_buy_days": _sign_count("foreign_net"),
            "institution_net_buy_days": _sign_count("institution_net"),
            "golden_cross": _event(pl.col("ema_50") > pl.col("ema_200")),
            "dead_cross": _event(pl.col("ema_50") < pl.col("ema_200")),
            "weekly_trend_up": _flag(
                (pl.col("ema_50") > pl.col("ema_200")) & (pl.col("ema_50") > pl.col("ema_50").shift(4))
            ),
        },
        {
            "bb_pctb": _percent_b(),
            "bb_bandwidth": 4 * pl.col("sd_20") / pl.col("sma_20"),
            "macd_signal_cross": _crossing("macd_histogram"),
            "mtf_aligned": _flag((pl.col("weekly_trend_up") == 1) & (pl.col("ema_50") > pl.col("ema_200"))),
        },
        {
            "bb_squeeze": _flag(pl.col("bb_bandwidth") < SQUEEZE * _mean(pl.col("bb_bandwidth"), 20)),
        },
    )


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
    "foreign_net_buy_days": 5,
    "institution_net_buy_days": 5,
}


def _ema(x: pl.Expr, span: int) -> pl.Expr:
    return x.ewm_mean(span=span, adjust=False)


def _window(x: pl.Expr, n: int) -> list[pl.Expr]:
    return [x.shift(back) for back in range(n)]


def _mean(x: pl.Expr, n: int) -> pl.Expr:
    """Return the mean of the last ``n`` values; null as long as the oldest of them is."""
    return pl.when(x.shift(n - 1).is_not_null()).then(pl.sum_horizontal(_window(x, n)) / n)


def _sd_20() -> pl.Expr:
    """Return the sample deviation (ddof 1) of 20 closes in two passes: equal prices give exactly 0."""
    deviations = [(close - pl.col("sma_20")) ** 2 for close in _window(_C, 20)]
    return (pl.sum_horizontal(deviations) / 19).sqrt()


def _rsi(n: int) -> pl.Expr:
    change = _C.diff().fill_null(0.0)  # the first bar neither gains nor loses
    gain = change.clip(lower_bound=0).ewm_mean(alpha=1 / n, adjust=False)
    loss = (-change).clip(lower_bound=0).ewm_mean(alpha=1 / n, adjust=False)
    by_wilder = 100 - 100 / (1 + gain / loss)
    return pl.when(loss > 0).then(by_wilder).when(gain > 0).then(100.0).otherwise(50.0)


def _true_range() -> pl.Expr:
    before = _C.shift(1)
    return pl.max_horizontal(_H - _L, (_H - before).abs(), (_L - before).abs())


def _percent_b() -> pl.Expr:
    sma, sd = pl.col("sma_20"), pl.col("sd_20")
    width = 4 * sd
    return pl.when(width > ZERO_WIDTH * sma).then((_C - (sma - 2 * sd)) / width).when(sma > 0).then(0.5)


def _ratio_to_positive(x: pl.Expr, divisor: pl.Expr) -> pl.Expr:
    return pl.when(divisor > 0).then(x / divisor)


def _crossing(name: str) -> pl.Expr:
    now, before = pl.col(name), pl.col(name).shift(1)
    return pl.when((now > 0) & (before <= 0)).then(1.0).when((now < 0) & (before >= 0)).then(-1.0).otherwise(0.0)


def _flag(condition: pl.Expr) -> pl.Expr:
    return condition.cast(pl.Float64)


def _event(state: pl.Expr) -> pl.Expr:
    """Return 1 on the one bar where ``state`` begins."""
    return _flag(state & ~state.shift(1))


def _sign_count(name: str) -> pl.Expr:
    """Return days bought minus days sold over five bars, each of which must be known."""
    return pl.col(name).sign().rolling_sum(5, min_samples=5)
