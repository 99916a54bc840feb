"""When what runs: in Seoul's time, and translated for schedulers that know only the machine's own.

Weekdays are ISO's, Monday 1 … Sunday 7, everywhere but in a scheduler's own file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo

from kstock_batch.market.sessions import KST_OFFSET

SEOUL = timezone(KST_OFFSET, "KST")
A_YEAR = timedelta(days=371)  # whole weeks, and every change of clocks within


@dataclass(frozen=True)
class Job:
    """A command and the hours in Seoul at which it runs; one that is idempotent may run an hour too often."""

    name: str
    command: tuple[str, ...]
    weekdays: tuple[int, ...]
    at: time
    about: str
    is_idempotent: bool = False


# Five minutes after the night's cut-off. Exchange holidays are the command's to notice: it ends "skipped".
NIGHTLY = Job("nightly", ("nightly",), (1, 2, 3, 4, 5), time(18, 35), "tonight's predictions", is_idempotent=True)
WEEKLY = Job("weekly", ("retrain",), (7,), time(3, 0), "the weekly retrain")
JOBS = (NIGHTLY, WEEKLY)


@dataclass(frozen=True, order=True)
class LocalTime:
    """A weekday (ISO) and a time on the machine's own clock."""

    weekday: int
    hour: int
    minute: int


def local_times(job: Job, zone: tzinfo | None, start: date) -> list[LocalTime]:
    """Return all weekdays and times at which ``job`` is due on a clock of ``zone`` (None = the machine's own).

    Where clocks change in the year that begins on ``start``, each of Seoul's hours is two of the machine's. A job that
    is idempotent runs at both; another at the later one, which is an hour late for half of the year and never early.
    """
    days = (start + timedelta(days=n) for n in range(A_YEAR.days))
    due = (datetime.combine(day, job.at, SEOUL) for day in days if day.isoweekday() in job.weekdays)
    local = [instant.astimezone(zone) for instant in due]
    if not job.is_idempotent:
        latest = max(offset for at in local if (offset := at.utcoffset()) is not None)
        local = [at for at in local if at.utcoffset() == latest]
    return sorted({LocalTime(at.isoweekday(), at.hour, at.minute) for at in local})


def next_due(jobs: Sequence[Job], now: datetime) -> dict[str, datetime]:
    """Return when each job is due next, in Seoul; ``now`` is naive UTC."""
    here = now.replace(tzinfo=UTC).astimezone(SEOUL)
    days = [here.date() + timedelta(days=n) for n in range(8)]
    return {
        job.name: next(
            at
            for day in days
            if day.isoweekday() in job.weekdays and (at := datetime.combine(day, job.at, SEOUL)) > here
        )
        for job in jobs
    }
