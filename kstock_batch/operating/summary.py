"""A summary of the night as plain text, fit for a message: short lines, no markup."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from kstock_batch.bot.reader import Prediction, PredictionReader
from kstock_batch.serving.monitor import status_rows
from kstock_batch.settings import Settings

TELEGRAM_LIMIT = 4096  # characters of a message
LINE = 60  # characters a phone shows without wrapping twice
STRONG, GOOD = 0.80, 0.65  # of the signal: what the bot's /ml screen counts

_WORDS: Mapping[str, tuple[str, str]] = {
    "head": ("KRX predictions as-of {day}", "KRX 예측 {day} 기준"),
    "stale": ("STALE: {n} sessions old", "오래됨: {n}거래일 전"),
    "degraded": ("DEGRADED: {why}", "자료 일부 누락: {why}"),
    "counts": (
        "{n} stocks; signal >= 0.80: {strong}, >= 0.65: {good}",
        "{n}종목; 신호 0.80 이상 {strong}, 0.65 이상 {good}",
    ),
    "model": ("model {version}", "모델 {version}"),
    "none": ("no model", "모델 없음"),
    "alert": ("! {sentence}", "! {sentence}"),
    "well": ("all is well", "이상 없음"),
}


def summary(settings: Settings, *, now: datetime, n: int, language: str) -> str:
    """Return what was published and what needs a person, in a message's length."""
    words = {key: said[language == "ko"] for key, said in _WORDS.items()}
    reader = PredictionReader(settings.published, max_age_sessions=None, clock=lambda: now)
    session = reader.top(100_000)
    facts = status_rows(settings, now=now)
    lines = [
        *_head(facts, session, words),
        *(_pick(one) for one in session[:n]),
        *_alerts(facts["alerts"], words, language),
    ]
    return "\n".join(line if line.startswith("!") else line[:LINE] for line in lines)  # an alert is told whole


def _head(facts: Mapping[str, Any], session: Sequence[Prediction], words: Mapping[str, str]) -> list[str]:
    lines = [words["head"].format(day=facts["as_of"])]
    if facts["is_stale"]:
        lines.append(words["stale"].format(n=facts["age_sessions"]))
    if facts.get("degraded_why"):
        lines.append(words["degraded"].format(why=facts["degraded_why"]))
    strong, good = (sum(one.signal >= limit for one in session) for limit in (STRONG, GOOD))
    lines.append(words["counts"].format(n=f"{len(session):,}", strong=strong, good=good))
    lines.append(words["model"].format(version=facts["model_version"]))
    return lines


def _pick(one: Prediction) -> str:
    return f"{one.rank}. {one.ticker} {one.name or ''} {100 * one.probability:.1f}% x{one.lift:.2f} {one.label}"


def _alerts(standing: Sequence[Any], words: Mapping[str, str], language: str) -> list[str]:
    told = [alert.sentence for alert in standing]
    if language == "ko":
        from kstock_batch.korean.catalogue import said  # not for those who read English

        told = [said(sentence) for sentence in told]
    return [words["alert"].format(sentence=sentence) for sentence in told] or [words["well"]]


def fit_for_telegram(text: str) -> str:
    """Return ``text``, cut if a message may not be as long."""
    return text if len(text) <= TELEGRAM_LIMIT else f"{text[: TELEGRAM_LIMIT - 1]}…"
