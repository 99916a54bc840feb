"""What a backtest does: when it retrains, what each model scores, and a name for all that decides the outcome.

The model of a refit scores the sessions after its own night up to the night of the next refit. A later refit need not
train all its folds: of a block that earlier refits have scored, what they said is already said out of sample.
"""

import hashlib
import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np

from kstock_batch.errors import ConfigError, NotEnoughHistory
from kstock_batch.settings import Settings
from kstock_batch.training.retrain import folds_of
from kstock_batch.training.splits import Fold

MONTHS: Mapping[str, int] = {"monthly": 1, "quarterly": 3, "half-yearly": 6, "yearly": 12}
FOLDS = ("walk", "own")
LEAST_TRAINED = 240  # sessions, about a year: what learnt from less has seen one mood of the market
DECIDING = (
    *("train_sessions", "validation_share", "n_folds", "embargo_sessions", "tree_stride", "sequence_stride"),
    *("lstm_epochs", "tree_rounds", "device", "seed", "price_basis", "include_preferred"),
)
# A budget would have predictions depend on how busy the machine was: no refit of a backtest is cut short.
UNHURRIED: Mapping[str, float] = {"budget_minutes": 0.0}
_MONTH = re.compile(r"^([0-9]{4})-(0[1-9]|1[0-2])$")


@dataclass(frozen=True)
class Refit:
    """One retrain of a backtest.

    Attributes
    ----------
    as_of : the night whose knowledge it learns from
    first, last : the sessions it scores
    n_sessions : that it learns from
    n_fitted : how many of its folds are trained; what the others would say, earlier refits have said
    """

    as_of: date
    first: date
    last: date
    n_sessions: int
    n_fitted: int

    @property
    def key(self) -> str:
        """Return its name among the refits of a backtest."""
        return str(self.as_of)


@dataclass(frozen=True)
class Plan:
    """A backtest that may have been begun.

    Attributes
    ----------
    backtest_id : changes with anything that decides a prediction
    refit : how often, as it was asked for
    folds : "walk" or "own"
    facts : all that the name stands for, JSON values
    """

    backtest_id: str
    refits: tuple[Refit, ...]
    refit: str
    folds: str
    facts: Mapping[str, Any]

    @property
    def first(self) -> date:
        """Return the first session that is scored."""
        return self.refits[0].first

    @property
    def last(self) -> date:
        """Return the last session that is scored."""
        return self.refits[-1].last


@dataclass(frozen=True)
class History:
    """The sessions a store can learn from and score, oldest first.

    Attributes
    ----------
    sessions : with features
    outcomes : (session, the session by which its outcome was known)
    """

    sessions: Sequence[date]
    outcomes: Sequence[tuple[date, date]]

    def known(self, as_of: date, n_sessions: int) -> list[date]:
        """Return the last ``n_sessions`` sessions whose outcome was known by ``as_of``."""
        return [session for session, known_on in self.outcomes if known_on <= as_of][-n_sessions:]


def refits_of(
    history: History, settings: Settings, *, since: date, until: date, refit: str, folds: str
) -> tuple[Refit, ...]:
    """Return the refits whose models score every session in [since, until]."""
    scored = [day for day in history.sessions if since <= day <= until]
    before = [day for day in history.sessions if day < since]
    if not scored or not before:
        have = f"{history.sessions[0]} … {history.sessions[-1]}" if history.sessions else "none"
        raise NotEnoughHistory(
            f"no model can score {since} … {until}: the sessions with features are {have}",
            fix="choose --from and --to within them, with some years before --from to learn from",
        )
    nights = _nights(history.sessions, since, scored[-1], refit)
    known = [history.known(night, settings.train_sessions) for night in nights]
    least = min(LEAST_TRAINED, settings.train_sessions)
    if len(known[0]) < least:
        raise NotEnoughHistory(
            f"by {nights[0]} the outcomes of {len(known[0])} sessions were known, {least} are needed to train on",
            fix=_first_possible(history, least),
        )
    found = []
    for number, night in enumerate(nights):
        end = nights[number + 1] if number + 1 < len(nights) else scored[-1]
        span = [day for day in scored if night < day <= end]
        blocks = folds_of(len(known[number]), settings)
        n_fitted = len(blocks) if folds == "own" else _not_yet_said(blocks, known[number], nights[0])
        found.append(Refit(night, span[0], span[-1], len(known[number]), n_fitted))
    return tuple(found)


def plan_of(refits: tuple[Refit, ...], refit: str, folds: str, facts: Mapping[str, Any]) -> Plan:
    """Return the plan, named by its span and a digest of ``facts`` and refits."""
    whole = json.loads(json.dumps({**facts, "folds": folds, "refits": [asdict(one) for one in refits]}, default=str))
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:8]
    name = f"{refits[0].first:%Y%m%d}-{refits[-1].last:%Y%m%d}-{digest}"
    return Plan(name, refits, refit, folds, whole)


def first_day(told: str) -> date:
    """Return the day that "2021-01" begins with, or "2021-01-04" is."""
    return _day(told, told + "-01")


def last_day(told: str) -> date:
    """Return the day that "2024-12" ends with, or "2024-12-30" is."""
    if found := _MONTH.match(told):
        year, month = int(found[1]), int(found[2])
        return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return _day(told, told)


def _day(told: str, whole: str) -> date:
    try:
        return date.fromisoformat(whole if _MONTH.match(told) else told)
    except ValueError as error:
        raise ConfigError(f"{told!r} is no month or date", fix="write it like 2021-01 or 2021-01-04") from error


def refit_days(told: str) -> list[date] | None:
    """Return the dates of "2022-12-29,2023-06-30", None for a word such as "quarterly"."""
    if told in MONTHS:
        return None
    try:
        return sorted({date.fromisoformat(day.strip()) for day in told.split(",")})
    except ValueError as error:
        raise ConfigError(
            f"--refit {told!r} is neither one of {', '.join(MONTHS)} nor dates",
            fix="write --refit quarterly, or --refit 2022-12-29,2023-06-30",
        ) from error


def _nights(sessions: Sequence[date], since: date, until: date, refit: str) -> list[date]:
    """Return the nights of the refits: each the last session before what its model scores."""
    days = refit_days(refit)
    if days is None:
        starts = [since]
        while (following := _months_later(starts[0].replace(day=1), MONTHS[refit] * len(starts))) <= until:
            starts.append(following)
        places = [bisect_left(sessions, start) - 1 for start in starts]
    else:
        places = [bisect_right(sessions, day) - 1 for day in days if day < until]
        opening = bisect_left(sessions, since) - 1
        places = [opening, *(place for place in places if place > opening)]
    return [sessions[place] for place in dict.fromkeys(places)]


def _months_later(day: date, months: int) -> date:
    month = day.month - 1 + months
    return day.replace(year=day.year + month // 12, month=month % 12 + 1)


def _not_yet_said(blocks: Sequence[Fold], known: Sequence[date], first_night: date) -> int:
    """Return how many folds must be trained: all up to the last block that earlier refits have not scored whole.

    The first fold always is: it finds how long to train.
    """
    said = np.array([day > first_night for day in known])
    missing = [number for number, block in enumerate(blocks) if not said[block.test].all()]
    return max([1, *(number + 1 for number in missing)])


def _first_possible(history: History, least: int) -> str:
    if len(history.outcomes) < least:
        return "ingest a longer history"
    known_on = history.outcomes[least - 1][1]
    later = [day for day in history.sessions if day > known_on]
    return f"begin with --from {later[0]} or later, or ingest a longer history" if later else "ingest a longer history"
