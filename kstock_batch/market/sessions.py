"""The exchange's sessions: which days traded, and when a session's data may be used.

Seoul has had no daylight saving since 1988, so KST is UTC+9 throughout.
"""

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from kstock_batch.errors import DataNotReady

KST_OFFSET = timedelta(hours=9)
CUTOFF = time(18, 30)  # KST, unless a setting says otherwise: prices are final from 15:45, investor flows from 18:10
CLOSE = time(15, 30)
LATE_CLOSE = time(16, 30)
SETTLING = timedelta(minutes=15)  # after the close, until prices are final

# Closures that exchange_calendars' XKRX (4.13.2) lists as sessions: the local elections, and Constitution Day,
# a public holiday again since 2026.
CLOSURES = frozenset({date(2026, 6, 3), date(2026, 7, 17)})
# On the day of the college entrance exam the exchange opens and closes an hour late; XKRX knows that up to 2020 only.
# (The first session of a year opens an hour late, too, but closes as ever.)
EXAM_DAYS = frozenset(
    {date(2021, 11, 18), date(2022, 11, 17), date(2023, 11, 16), date(2024, 11, 14), date(2025, 11, 13)}
    | {date(2026, 11, 19)}
)


def to_utc(day: date, at: time) -> datetime:
    """Return the UTC instant (naive, as the store keeps it) of a wall-clock time in Seoul."""
    return datetime.combine(day, at) - KST_OFFSET


def cutoff_at(session: date, at: time = CUTOFF, closes_at: datetime | None = None) -> datetime:
    """Return the UTC instant after which nothing is known to the night of ``session``.

    ``at``: the setting; a session that closes late has a night that is no earlier than its final prices.
    """
    return max(to_utc(session, at), closes_at + SETTLING) if closes_at else to_utc(session, at)


def seoul_date(instant: datetime) -> date:
    """Return the calendar date in Seoul at a naive UTC instant."""
    return (instant + KST_OFFSET).date()


def krx_sessions(start: date, end: date) -> list[date]:
    """Return every KRX session in [start, end], oldest first."""
    return list(krx_closes(start, end))


def krx_closes(start: date, end: date) -> dict[date, datetime]:
    """Return every KRX session in [start, end], oldest first, with the UTC instant at which it closes."""
    import exchange_calendars  # costs 0.6 s: the nightly path reads the store's raw_calendar instead

    # The calendar computes its own bounds from the clock unless both are given; so the same call gives the same days.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 4.13 meets announcements of pandas 4: the library's to heed, not the user's
        calendar = exchange_calendars.get_calendar("XKRX", start=start.isoformat(), end=end.isoformat())
    closes = {stamp.date(): close.to_pydatetime().replace(tzinfo=None) for stamp, close in calendar.closes.items()}
    late = {day: to_utc(day, LATE_CLOSE) for day in EXAM_DAYS & closes.keys()}
    return {day: at for day, at in (closes | late).items() if day not in CLOSURES}


@dataclass(frozen=True)
class Sessions:
    """An ordered list of sessions with arithmetic on it."""

    days: Sequence[date]

    def __contains__(self, day: date) -> bool:
        """Return whether the exchange was open on ``day``."""
        at = bisect_left(self.days, day)
        return at < len(self.days) and self.days[at] == day

    def at_or_before(self, day: date) -> date:
        """Return ``day``, or the last session before it."""
        at = bisect_right(self.days, day)
        if at == 0:
            raise DataNotReady(f"no session at or before {day} is known", fix="ingest prices that reach back that far")
        return self.days[at - 1]

    def between(self, start: date, end: date) -> list[date]:
        """Return the sessions in [start, end]."""
        return list(self.days[bisect_left(self.days, start) : bisect_right(self.days, end)])

    def back(self, day: date, n: int) -> date:
        """Return the session ``n`` before the one at or before ``day``; the first known one if that is later."""
        return self.days[max(0, bisect_right(self.days, day) - 1 - n)]
