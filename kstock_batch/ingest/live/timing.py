"""When a session's rows of a dataset are final: before that they are provisional, and nobody is asked for them."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property

from kstock_batch.errors import DataNotReady
from kstock_batch.ingest.calendar import Calendar
from kstock_batch.ingest.live.datasets import DATASETS, LiveDataset
from kstock_batch.market.sessions import KST_OFFSET, SETTLING, Sessions, seoul_date, to_utc


@dataclass(frozen=True)
class Timetable:
    """The sessions of a calendar with their hours."""

    calendar: Calendar

    @cached_property
    def sessions(self) -> Sessions:
        """The sessions, oldest first."""
        return Sessions(list(self.calendar))

    def final_at(self, dataset: LiveDataset, session: date) -> datetime:
        """Return the UTC instant from which the rows of ``session`` are final, later on a day that closes late."""
        days = self.sessions.days
        following = self.sessions.between(session, session + timedelta(days=31))
        day = following[dataset.plus_sessions] if len(following) > dataset.plus_sessions else days[-1]
        at = to_utc(day, dataset.final_at)
        return at if dataset.is_open_ended else max(at, self.calendar[day].closes_at + SETTLING)

    def final_sessions(self, dataset: LiveDataset, start: date, end: date, now: datetime) -> list[date]:
        """Return the sessions in [start, end] whose rows are final at ``now``, oldest first."""
        return [day for day in self.sessions.between(start, end) if self.final_at(dataset, day) <= now]

    def newest_final_session(self, now: datetime) -> date:
        """Return the newest session whose prices are final at ``now``."""
        today = seoul_date(now)
        return self.final_sessions(DATASETS["price"], today - timedelta(days=31), today, now)[-1]

    def require_reached(self, day: date) -> None:
        """Raise if the calendar does not say whether ``day`` is a session."""
        first, last = self.sessions.days[0], self.sessions.days[-1]
        if not first <= day <= last:
            raise DataNotReady(
                f"nobody knows whether {day} is a session: the calendar reaches from {first} to {last}",
                fix="name a session within it with --as-of",
            )

    def require_final(self, session: date, now: datetime) -> None:
        """Raise if not even the prices of ``session`` are final."""
        if (at := self.final_at(DATASETS["price"], session)) > now:
            raise DataNotReady(
                f"the prices of {session} are provisional until {at + KST_OFFSET:%Y-%m-%d %H:%M} in Seoul",
                fix="run it again then, or name an earlier session with --as-of",
            )
