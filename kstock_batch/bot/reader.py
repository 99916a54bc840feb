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
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from time import time as unix_seconds
from typing import Any, NamedTuple

from kstock_batch.bot.collector import collector_pause
from kstock_batch.bot.publication import FollowedFile, PublicationFacts, age_in_sessions
from kstock_batch.bot.results import PredictionResult
from kstock_batch.errors import NoPublication, StalePredictions
from kstock_batch.wording import counted


class Prediction(NamedTuple):
    """One row of the publication; see the README for what each column means."""

    # A tuple that keeps its explanation as it was published, because a session is 2,500 of them: frozen dataclasses
    # take 8 ms to make and explanations 2 to parse, where most are never looked at; this takes 1.

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
    shap_json: str | None
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
    def shap_top3(self) -> tuple[tuple[str, float], ...]:
        """The three largest contributions as (name, value), largest first; empty when not explained."""
        return tuple((name, value) for name, value in json.loads(self.shap_json or "[]"))

    @property
    def result(self) -> PredictionResult:
        """The prediction in the bot's own type, under an even prior."""
        return PredictionResult(self.signal, self.label, list(self.shap_top3))

    def facts(self) -> dict[str, Any]:
        """Return the columns by name, as they are told to people."""
        told = {"shap_json": ("shap_top3", self.shap_top3)}
        return dict(told.get(name, (name, value)) for name, value in self._asdict().items())


@dataclass(frozen=True)
class PublicationStatus:
    """What is being read (None = nothing yet), how old it is, what is wrong with the file at ``path``, what to do."""

    path: Path
    publication: PublicationFacts | None
    age_sessions: int | None
    is_stale: bool
    problem: str | None
    fix: str | None = None


_COLUMNS = ", ".join(name.replace("shap_json", "shap_top3") for name in Prediction._fields if name != "is_stale")
_NEWEST = f"SELECT {_COLUMNS} FROM latest WHERE as_of = $as_of"
_ONE = f"{_NEWEST} AND ticker = $ticker"
_TOP = f"{_NEWEST} ORDER BY rank LIMIT $n"
# Reads every block of the newest session: damage shows while the old file is still at hand.
_PROBE = f"SELECT bit_xor(hash({_COLUMNS})) FROM latest WHERE as_of = $as_of"
_SESSION = f"SELECT {_COLUMNS} FROM prediction WHERE as_of = $as_of ORDER BY rank"
_HISTORY = f"SELECT {_COLUMNS} FROM prediction WHERE ticker = $ticker ORDER BY as_of DESC LIMIT $limit"
_RANK = attrgetter("rank")


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
        self._newest = _NewestSession()

    def latest(self, ticker: str) -> Prediction | None:
        """Return the newest session's prediction for ``ticker``, or None: no prediction is not 0.5."""
        with self._lock:
            facts = self._current()
            is_stale = self._is_refused(facts)
            newest = self._newest
            if newest.needs_all(ticker):
                newest.hold_all(self._ask(_NEWEST, as_of=facts.as_of))
            elif not newest.knows(ticker):
                newest.hold_one(ticker, self._ask(_ONE, as_of=facts.as_of, ticker=ticker))
            row = newest.by_ticker.get(ticker)
        return row._replace(is_stale=True) if row and is_stale else row

    def top(self, n: int = 20) -> list[Prediction]:
        """Return the newest session's ``n`` best predictions, best first."""
        with self._lock:
            facts = self._current()
            is_stale = self._is_refused(facts)
            ranked, n = self._newest.ranked, _count(n)
            rows = self._ask(_TOP, as_of=facts.as_of, n=n) if ranked is None else ranked[:n]
        return [row._replace(is_stale=True) for row in rows] if is_stale else rows

    def session(self, as_of: date) -> list[Prediction]:
        """Return all predictions of one session, best first: it was asked for by date, so it is never too old."""
        with self._lock:
            facts = self._current()
            if as_of != facts.as_of:
                return self._ask(_SESSION, as_of=as_of)
            if self._newest.ranked is None:
                self._newest.hold_all(self._ask(_NEWEST, as_of=as_of))
            return list(self._newest.ranked or ())

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
            told = (self._file.problem, self._file.fix)
            return PublicationStatus(self._file.path, facts, age, self._is_old(age), *told)

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        with self._lock:
            self._newest = _NewestSession()
            self._file.close()

    def _refresh(self) -> None:
        if self._file.refresh():
            self._newest = _NewestSession()

    def _current(self) -> PublicationFacts:
        """Return the facts of the newest good publication."""
        self._refresh()
        if self._file.facts is None:
            elsewhere = "" if self._file.path.exists() else ", or give the reader the path that it prints"
            what = f"there are no predictions to read: {self._file.problem}"
            raise NoPublication(what, fix=f"{self._file.fix}{elsewhere}")
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
        old = f"{counted(age, 'session')} old, limit {self._max_age_sessions}"
        raise StalePredictions(
            f"newest predictions are as-of {facts.as_of}, {old}",
            fix="check `kstock-batch status`, then run `kstock-batch score`",
        )

    def _ask(self, statement: str, **params: Any) -> list[Prediction]:
        with collector_pause:
            return [Prediction(*row) for row in self._file.rows(statement, params)]


class _NewestSession:
    """What has been read of the newest session.

    The first ticker asked for is read alone, so that a publication's first answer comes soon. Whoever asks for a second
    one will ask for many: all are read at once, and from then on an answer is a look into a dictionary.

    Attributes
    ----------
    by_ticker : the predictions read; None = this ticker has none
    ranked : all of them, best first; None = they were not read yet
    """

    def __init__(self) -> None:
        self.by_ticker: dict[str, Prediction | None] = {}
        self.ranked: list[Prediction] | None = None

    def knows(self, ticker: str) -> bool:
        """Whether it is known what ``ticker`` has."""
        return self.ranked is not None or ticker in self.by_ticker

    def needs_all(self, ticker: str) -> bool:
        """Whether ``ticker`` is the second that is asked for."""
        return bool(self.by_ticker) and not self.knows(ticker)

    def hold_one(self, ticker: str, rows: list[Prediction]) -> None:
        """Remember what ``ticker`` has."""
        self.by_ticker[ticker] = rows[0] if rows else None

    def hold_all(self, rows: list[Prediction]) -> None:
        """Remember the whole session."""
        # They lie in this order in the file, which Python sees in no time; DuckDB would sort them all the same.
        self.ranked, self.by_ticker = sorted(rows, key=_RANK), {row.ticker: row for row in rows}


def _count(n: int) -> int:
    if n < 0:
        raise ValueError(f"{n} rows were asked for: give 0 or more")
    return n
