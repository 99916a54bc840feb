"""The 30 features as a contract: names, order, dtype, scope, and how each becomes a model input.

The names and their order are the bot's ``FEATURE_NAMES``. Changing a definition means a new version here, which
changes the fingerprint, which makes every model trained on the old one refuse to score.
"""

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


@dataclass(frozen=True)
class Feature:
    """One column of feature_daily.

    Attributes
    ----------
    scope : what a value depends on; ``market_wide`` is the same for all tickers of a session
    as_input : ``value`` as it is; ``per_close`` = x / close; ``close_over`` = close / x - 1; ``category`` = a code
    version : of the definition
    """

    name: str
    scope: Scope
    as_input: AsInput = "value"
    version: int = 1


FEATURES: tuple[Feature, ...] = (
    Feature("rsi", "ticker"),
    Feature("bb_pctb", "ticker"),
    Feature("bb_bandwidth", "ticker"),
    Feature("macd_histogram", "ticker", "per_close"),
    Feature("macd_signal_cross", "ticker"),
    Feature("atr_pct", "ticker"),
    Feature("ema_50", "ticker", "close_over"),
    Feature("ema_200", "ticker", "close_over"),
    Feature("golden_cross", "ticker"),
    Feature("dead_cross", "ticker"),
    Feature("volume_ratio", "ticker"),
    Feature("bb_squeeze", "ticker"),
    Feature("return_3m_pct", "ticker"),
    Feature("high_52w_ratio", "ticker"),
    Feature("high_20d_ratio", "ticker"),
    Feature("mtf_aligned", "ticker"),
    Feature("weekly_trend_up", "ticker"),
    Feature("rs_percentile", "cross_section"),
    Feature("vix", "market_wide"),
    Feature("spx_change_pct", "market_wide"),
    Feature("usdkrw", "market_wide"),
    Feature("regime_encoded", "market_wide"),
    Feature("per", "fundamental"),
    Feature("roe", "fundamental"),
    Feature("debt_ratio", "fundamental"),
    Feature("market_cap_log", "fundamental"),
    Feature("foreign_net_buy_days", "ticker"),
    Feature("institution_net_buy_days", "ticker"),
    Feature("sector_encoded", "static", "category"),
    Feature("policy_bonus", "static"),
)
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
N_FEATURES = len(FEATURES)


def fingerprint(features: tuple[Feature, ...] = FEATURES, version: int = FEATURE_SET_VERSION) -> str:
    """Return 12 hex digits that change with any name, order, dtype, scope, input form or definition version."""
    facts = [version, "float32", WINDOW, [astuple(feature) for feature in features]]
    return hashlib.sha256(json.dumps(facts, ensure_ascii=False).encode()).hexdigest()[:12]
