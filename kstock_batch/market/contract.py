"""The 30 features as a contract: names, order, dtype, scope, and how each becomes a model input.

The names and their order are the bot's ``FEATURE_NAMES``. Changing a definition means a new version here, which
changes the fingerprint, which makes every model trained on the old one refuse to score.

Python 3.9 syntax only, because the bot imports this module when it asks its LSTM.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import astuple, dataclass
from typing import Literal

Scope = Literal["ticker", "cross_section", "market_wide", "fundamental", "static"]
AsInput = Literal["value", "per_close", "close_over", "category"]

FEATURE_SET_VERSION = 1
WINDOW = 20  # bars a model reads
MAX_WINDOW_SPAN = 40  # sessions those bars may span
MIN_BARS = 60  # bars before a ticker is scoreable
HORIZON = 5  # sessions the label looks ahead
LABEL_RISE = 0.03
DTYPE = "float32"  # of every feature, in the store and in a model's hands


@dataclass(frozen=True)
class Feature:
    """One column of feature_daily.

    Attributes
    ----------
    scope : what a value depends on; ``market_wide`` is the same for all tickers of a session
    definition : how it is computed, in docs/features.md's words; C, H, L, V = adjusted close, high, low and volume
    null_until : bars a ticker must have had; None = no bars are needed, NULL only where a fact is unknown
    as_input : ``value`` as it is; ``per_close`` = x / close; ``close_over`` = close / x - 1; ``category`` = a code
    version : of the definition
    """

    name: str
    scope: Scope
    definition: str
    null_until: int | None = None
    as_input: AsInput = "value"
    version: int = 1


FEATURES: tuple[Feature, ...] = (
    Feature(
        "rsi",
        "ticker",
        "Wilder 14: gains and losses each EWM(1/14), the first bar 0; 100 − 100/(1+G/L); no losses 100, neither 50",
        15,
    ),
    Feature("bb_pctb", "ticker", "(C − lower)/(upper − lower), bands SMA20 ± 2 sd20 (ddof 1); no width 0.5", 20),
    Feature("bb_bandwidth", "ticker", "(upper − lower)/SMA20, bands as in bb_pctb", 20),
    Feature("macd_histogram", "ticker", "(EMA12 − EMA26) − its EMA9, won", 35, as_input="per_close"),
    Feature(
        "macd_signal_cross",
        "ticker",
        "+1 where macd_histogram turns positive, −1 where it turns negative, else 0",
        35,
    ),
    Feature("atr_pct", "ticker", "mean of 14 true ranges / C · 100", 14),
    Feature("ema_50", "ticker", "EMA50 of C, won", 50, as_input="close_over"),
    Feature("ema_200", "ticker", "EMA200 of C, won", 200, as_input="close_over"),
    Feature("golden_cross", "ticker", "1 on the one bar where EMA50 rises above EMA200, else 0", 201),
    Feature("dead_cross", "ticker", "1 on the one bar where EMA50 falls below EMA200, else 0", 201),
    Feature("volume_ratio", "ticker", "V / mean of the last 20 V, today included", 20),
    Feature("bb_squeeze", "ticker", "1 if bb_bandwidth < 0.7 · mean of its last 20 values, else 0", 39),
    Feature("return_3m_pct", "ticker", "(C / C 60 bars ago − 1) · 100", 61),
    Feature("high_52w_ratio", "ticker", "C / highest H of the last min(252, n) bars", 60),
    Feature("high_20d_ratio", "ticker", "C / highest H of the last 20 bars", 20),
    Feature("mtf_aligned", "ticker", "1 if weekly_trend_up and EMA50 > EMA200, else 0", 200),
    Feature("weekly_trend_up", "ticker", "1 if EMA50 > EMA200 and EMA50 above its value four bars ago, else 0", 200),
    Feature(
        "rs_percentile",
        "cross_section",
        "100·(N − rank)/(N − 1) of return_3m_pct among the scoreable names of T; high = strong",
        61,
    ),
    Feature("vix", "market_wide", "last VIX close of a US session dated before T"),
    Feature("spx_change_pct", "market_wide", "change of that US session's S&P 500 close, percent"),
    Feature("usdkrw", "market_wide", "last USD/KRW fixing dated before T"),
    Feature(
        "regime_encoded",
        "market_wide",
        "s = [spx_change_pct < −1] + [vix > 25] + [USD/KRW change > 0.5 %]: s ≥ 2 → 0; s = 0, vix < 18, "
        "spx_change_pct > 0 → 2; else 1",
    ),
    Feature(
        "per",
        "fundamental",
        "the exchange's own (≤ 45 days old, moved with the price), else market cap / net income of four quarters; > 0",
    ),
    Feature("roe", "fundamental", "net income of four quarters / latest equity · 100"),
    Feature("debt_ratio", "fundamental", "liabilities / equity · 100, the latest known"),
    Feature(
        "market_cap_log",
        "fundamental",
        "log₁₀ of market cap in won: the last printed figure, moved with the price",
    ),
    Feature(
        "foreign_net_buy_days",
        "ticker",
        "days foreigners bought − days they sold over the last 5 bars, all of them known",
        5,
    ),
    Feature(
        "institution_net_buy_days",
        "ticker",
        "days institutions bought − days they sold over the last 5 bars, all of them known",
        5,
    ),
    Feature(
        "sector_encoded",
        "static",
        "code in a frozen map; 0 = unknown; a category, never a number",
        as_input="category",
    ),
    Feature("policy_bonus", "static", "points 0 … 20 of announced measures in force"),
)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
N_FEATURES = len(FEATURES)


def fingerprint(features: tuple[Feature, ...] = FEATURES, version: int = FEATURE_SET_VERSION) -> str:
    """Return 12 hex digits that change with any name, order, dtype, scope, input form or definition version."""
    facts = [version, DTYPE, WINDOW, [astuple(feature) for feature in features]]
    return hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()[:12]
