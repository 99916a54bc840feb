"""A prediction in the bot's own words: its label, its score bonus, its message.

Standard library and Python 3.9 syntax only, because the bot's environment imports this module. Every probability here
is the one under an even prior (``signal`` in the tables): all thresholds take 0.5 as neutral.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# Lowest probability of each step, highest step first: an edge belongs to the step above it.
_LABELS = ((0.80, "STRONG_BUY"), (0.65, "BUY"), (0.50, "NEUTRAL"))
_BONUSES = ((0.80, 15), (0.70, 10), (0.60, 5), (0.50, 0))
_REQUIRED = {"A": 0.60, "D": 0.60, "F": 0.65, "G": 0.65}
_SENTENCES = {
    "STRONG_BUY": "ML: 강한 매수 신호",
    "BUY": "ML: 매수 우호",
    "NEUTRAL": "ML: 중립",
    "AVOID": "ML: 비추천",
}
_BAR = 10


@dataclass(frozen=True)
class PredictionResult:
    """A probability with its label and the three contributions that made it; empty when not explained."""

    probability: float
    label: str
    shap_top3: list[tuple[str, float]] = field(default_factory=list)


def signal_label(probability: float) -> str:
    """Return STRONG_BUY, BUY, NEUTRAL or AVOID."""
    for edge, label in _LABELS:
        if probability >= edge:
            return label
    return "AVOID"


def score_bonus(probability: float) -> int:
    """Return the points the bot adds to a stock's score."""
    for edge, bonus in _BONUSES:
        if probability >= edge:
            return bonus
    return -10


def should_recommend(strategy: str, probability: float) -> bool:
    """Return whether a strategy's own threshold lets the stock pass; strategies without one let everything pass."""
    return probability >= _REQUIRED.get(strategy, 0.0)


def format_ml_prediction(result: PredictionResult) -> str:
    """Return the lines of plain text that the bot shows."""
    filled = round(_BAR * result.probability)
    bar = ">" * filled + "-" * (_BAR - filled)
    lines = [f"[{bar}] {100 * result.probability:.1f}%  {_SENTENCES[result.label]}"]
    if bonus := score_bonus(result.probability):
        lines.append(f"  ML 점수 보정: {bonus:+d}점")
    if result.shap_top3:
        reasons = ", ".join(f"{name}({value:.2f})" for name, value in result.shap_top3)
        lines.append(f"  주요 근거: {reasons}")
    return "\n".join(lines)
