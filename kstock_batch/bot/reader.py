"""What the bot asks: the newest complete publication, or the reason why it must not be used.

    reader = PredictionReader("warehouse/serving/predictions.duckdb")
    prediction = reader.latest("005930")     # None = no prediction: show "no ML", add no bonus

Standard library, duckdb (1.4 or later) and Python 3.9 syntax only.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from time import time as unix_seconds
from typing import Any

from kstock_batch.bot.publication import FollowedFile, PublicationFacts, age_in_sessions
from kstock_batch.bot.results import PredictionResult
from kstock_batch.errors import NoPublication, StalePredictions


@dataclass(frozen=True)
class Prediction:
    """One row of the publication; see the README for what each column means."""

    as_of: date
    ticker: str
    name: str | None
    market: str | None
    sector: str | None
    probability: float
    signal: float
    label: str
    score_bonus: int
    base_rate: float
    lift: float
    rank: int
    percentile: float
    lgbm: float | None
    xgb: float | None
    lstm: float | None
    shap_top3: tuple[tuple[str, float], ...]
    model_version: str
    fingerprint: str
    run_id: str
    scored_at: datetime
    degraded_why: str | None
    is_stale: bool = False

    @property
    def is_degraded(self) -> bool:
        """Whether its session failed gates and was published all the same; ``degraded_why`` says which."""
        return self.degraded_why is not None

    @property
    def result(self) -> PredictionResult:
        """The prediction in the bot's own type, under an even prior."""
        return PredictionResult(self.signal, self.label, list(self.shap_top3))


@dataclass(frozen=True)
class PublicationStatus:
    """What is being read (None = nothing yet), how old it is, and what is wrong with the file at ``path``."""

    path: Path
    publication: PublicationFacts | None
    age_sessions: int | None
    is_stale: bool
    problem: str | None


_COLUMNS = ", ".join(field.name for field in fields(Prediction) if field.name != "is_stale")
_SELECT = f"SELECT {_COLUMNS} FROM prediction"
_LATEST = f"{_SELECT} WHERE as_of = $as_of AND ticker = $ticker"
_TOP = f"{_SELECT} WHERE as_of = $as_of ORDER BY rank LIMIT $n"
_SESSION = f"{_SELECT} WHERE as_of = $as_of ORDER BY rank"
_PROBE = f"{_SELECT} WHERE as_of = $as_of LIMIT 1"
_HISTORY = f"{_SELECT} WHERE ticker = $ticker ORDER BY as_of DESC LIMIT $limit"


def utc_now() -> datetime:
    """Return the clock's UTC time, naive as the publication's times are."""
    return datetime(1970, 1, 1) + timedelta(seconds=unix_seconds())


class PredictionReader:
    """The newest publication at ``path``; one object serves all threads of a bot for weeks.

    Parameters
    ----------
    path : the published file; it may be absent, and is read as soon as it appears
    max_age_sessions : ``latest`` and ``top`` refuse a publication that is older than this many sessions; None = never
    flag_stale : return old predictions with ``is_stale`` set instead of refusing them
    clock : returns the time as naive UTC
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        max_age_sessions: int | None = 3,
        *,
        flag_stale: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._file = FollowedFile(Path(path).absolute(), _PROBE)
        self._max_age_sessions = max_age_sessions
        self._flag_stale = flag_stale
        self._clock = clock
        self._lock = threading.Lock()  # a DuckDB connection serves one thread at a time
        self._known: dict[str, Prediction] = {}

    def latest(self, ticker: str) -> Prediction | None:
        """Return the newest session's prediction for ``ticker``, or None: no prediction is not 0.5."""
        with self._lock:
            facts = self._current()
            is_stale = self._is_refused(facts)
            if ticker not in self._known:
                self._known.update((row.ticker, row) for row in self._ask(_LATEST, as_of=facts.as_of, ticker=ticker))
            row = self._known.get(ticker)
        return replace(row, is_stale=True) if row and is_stale else row

    def top(self, n: int = 20) -> list[Prediction]:
        """Return the newest session's ``n`` best predictions, best first."""
        with self._lock:
            facts = self._current()
            is_stale = self._is_refused(facts)
            rows = self._ask(_TOP, as_of=facts.as_of, n=_count(n))
        return [replace(row, is_stale=True) for row in rows] if is_stale else rows

    def session(self, as_of: date) -> list[Prediction]:
        """Return all predictions of one session, best first: it was asked for by date, so it is never too old."""
        with self._lock:
            self._current()
            return self._ask(_SESSION, as_of=as_of)

    def history(self, ticker: str, limit: int = 60) -> list[Prediction]:
        """Return a ticker's last ``limit`` predictions, newest first, however old."""
        with self._lock:
            self._current()
            return self._ask(_HISTORY, ticker=ticker, limit=_count(limit))

    def status(self) -> PublicationStatus:
        """Return what is being read and what is wrong, without raising."""
        with self._lock:
            self._refresh()
            facts = self._file.facts
            age = None if facts is None else self._age(facts)
            return PublicationStatus(self._file.path, facts, age, self._is_old(age), self._file.problem)

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        with self._lock:
            self._known = {}
            self._file.close()

    def _refresh(self) -> None:
        if self._file.refresh():
            self._known = {}

    def _current(self) -> PublicationFacts:
        """Return the facts of the newest good publication."""
        self._refresh()
        if self._file.facts is None:
            raise NoPublication(
                f"there are no predictions to read: {self._file.problem}",
                fix="run `kstock-batch score`, or give the reader the path that it prints",
            )
        return self._file.facts

    def _age(self, facts: PublicationFacts) -> int:
        return age_in_sessions(facts.as_of, self._file.calendar, self._clock())

    def _is_old(self, age: int | None) -> bool:
        return age is not None and self._max_age_sessions is not None and age > self._max_age_sessions

    def _is_refused(self, facts: PublicationFacts) -> bool:
        """Return whether the publication is too old; raise instead unless the caller prefers a flag."""
        if not self._is_old(age := self._age(facts)):
            return False
        if self._flag_stale:
            return True
        raise StalePredictions(
            f"newest predictions are as-of {facts.as_of}, {age} sessions old, limit {self._max_age_sessions}",
            fix="check `kstock-batch status`, then run `kstock-batch score`",
        )

    def _ask(self, statement: str, **params: Any) -> list[Prediction]:
        return [_prediction(row) for row in self._file.rows(statement, params)]


_SHAP = [field.name for field in fields(Prediction)].index("shap_top3")


def _prediction(row: tuple[Any, ...]) -> Prediction:
    values = list(row)
    values[_SHAP] = tuple((name, value) for name, value in json.loads(row[_SHAP] or "[]"))
    return Prediction(*values)


def _count(n: int) -> int:
    if n < 0:
        raise ValueError(f"{n} rows were asked for: give 0 or more")
    return n
