"""The file of a source's calls: how many were sent on which day of Seoul, and before when none may be sent."""

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from kstock_batch.files import write_atomically
from kstock_batch.market.sessions import seoul_date

_KEPT_DAYS = 7


@dataclass(frozen=True)
class Calls:
    """Requests sent (instants are UTC, naive).

    Attributes
    ----------
    by_day : how many, by day of Seoul
    sent_at : when the last was sent
    not_before : before when the source asked us not to come again
    is_lost : the file could not be read on the day it was written, so how many were sent is not known
    """

    by_day: dict[date, int] = field(default_factory=dict)
    sent_at: datetime | None = None
    not_before: datetime | None = None
    is_lost: bool = False

    def on(self, day: date) -> int:
        """Return the requests of ``day`` and of later days, which a clock that was set back leaves behind."""
        return sum(n for counted, n in self.by_day.items() if counted >= day)

    def next_at(self, now: datetime, min_interval_s: float) -> datetime:
        """Return when the next may be sent; a clock that was set back costs no more than the usual interval."""
        if self.sent_at is None:
            return now
        pause = timedelta(seconds=min_interval_s)
        if now < self.sent_at:
            return now + pause
        return max(now, self.sent_at + pause, self.not_before or now)

    def with_one_more(self, now: datetime) -> "Calls":
        """Return them after a request at ``now``; weeks that are over are forgotten."""
        today = seoul_date(now)
        kept = {day: n for day, n in self.by_day.items() if day > today - timedelta(days=_KEPT_DAYS)}
        return Calls(kept | {today: kept.get(today, 0) + 1}, sent_at=now)

    def postponed(self, until: datetime) -> "Calls":
        """Return them with the wish of the source not to be asked before ``until``."""
        return Calls(self.by_day, self.sent_at, until)


def read_calls(path: Path, now: datetime) -> Calls:
    """Return what ``path`` counts: nothing if it is absent, or if it cannot be read and is of an earlier day."""
    try:
        written_at = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    except FileNotFoundError:
        return Calls()
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        by_day = {date.fromisoformat(day): _count(n) for day, n in told["by_day"].items()}
        return Calls(by_day, _instant(told["sent_at"]), _instant(told["not_before"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Calls(is_lost=seoul_date(written_at) >= seoul_date(now))


def write_calls(path: Path, calls: Calls) -> None:
    """Make ``path`` count ``calls``."""
    told = {
        "by_day": {day.isoformat(): n for day, n in sorted(calls.by_day.items())},
        "sent_at": calls.sent_at and calls.sent_at.isoformat(),
        "not_before": calls.not_before and calls.not_before.isoformat(),
    }
    write_atomically(path, json.dumps(told, indent=2).encode())


def _count(n: object) -> int:
    if isinstance(n, int) and not isinstance(n, bool) and n >= 0:
        return n
    raise ValueError(f"{n!r} is no number of calls")


def _instant(text: str | None) -> datetime | None:
    instant = None if text is None else datetime.fromisoformat(text)
    if instant is not None and instant.tzinfo is not None:
        raise ValueError(f"{text} is not naive UTC")
    return instant
