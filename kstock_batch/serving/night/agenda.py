"""What a night has to do: the session it is for, those that were missed before it, or why there is nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import duckdb

from kstock_batch.errors import DataNotReady
from kstock_batch.features.sessions import session_asked, session_days
from kstock_batch.market.sessions import Sessions, seoul_date
from kstock_batch.registry import ModelVersion
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query

_LATER = "SELECT count(*) FROM raw_calendar WHERE session > $newest AND cutoff_at <= $now"


@dataclass(frozen=True)
class Agenda:
    """The sessions of a night; what follows ``asked`` is known only of a night that was told no date.

    Attributes
    ----------
    as_of : the session it is for
    asked : those asked for, oldest first: one of them that cannot be scored stops the night
    missed : those of nights that never came, oldest first: they are caught up where that can be done
    left_out : missed sessions that cannot be caught up, and why
    n_older : sessions missed further back than it was looked
    n_behind : sessions after ``as_of`` that had closed when the night ran: their prices are not there
    day_off : the day of the night, if the exchange is closed on it
    """

    as_of: date
    asked: list[date]
    missed: list[date] = field(default_factory=list)
    left_out: Mapping[date, str] = field(default_factory=dict)
    n_older: int = 0
    n_behind: int = 0
    day_off: date | None = None


@dataclass(frozen=True)
class DaysOff:
    """Days, or one day, on which the exchange is closed."""

    start: date
    end: date

    def __str__(self) -> str:
        """Return it as a clause."""
        if self.start == self.end:
            return f"{self.end} is no session of the exchange"
        return f"{self.start} … {self.end} holds no session of the exchange"


def agenda_asked(con: duckdb.DuckDBPyConnection, settings: Settings, since: date | None, as_of: date | None) -> Agenda:
    """Return the sessions in [since, as_of], or the one of the two that was given."""
    newest = session_asked(con, as_of, settings.price_basis)
    asked = Sessions(session_days(con)).between(since or newest, newest)
    if not asked:
        fix = "ingest what came since, or give an earlier one"
        raise DataNotReady(f"the stored prices end {newest}, before --from {since}", fix=fix)
    return Agenda(newest, asked)


def agenda_tonight(con: duckdb.DuckDBPyConnection, settings: Settings, version: ModelVersion, now: datetime) -> Agenda:
    """Return the newest session and those missed lately before it that ``version`` may score; ``now`` is UTC."""
    newest = session_asked(con, None, settings.price_basis)
    learnt = date.fromisoformat(version.manifest["as_of"])
    found = Query.load("serve/missed_session").frame(con, as_of=newest).rows()
    missed, left_out, n_older = [], {}, 0
    for session, n_scoreable, n_back in found:
        if n_back > settings.catch_up_sessions:
            n_older += settings.catch_up_sessions > 0  # who wants none caught up need not be told every night
        elif not n_scoreable:
            left_out[session] = "no stock has the prices to be scored"
        elif session < learnt:
            left_out[session] = f"model {version.version} was trained on outcomes known by {learnt}"
        else:
            missed.append(session)
    return Agenda(
        newest,
        [newest],
        missed,
        left_out,
        n_older=n_older,
        n_behind=con.execute(_LATER, {"newest": newest, "now": now}).fetchall()[0][0],
        day_off=today if has_no_session(con, today := seoul_date(now), today, now) else None,
    )


def days_off(con: duckdb.DuckDBPyConnection, since: date | None, as_of: date | None, now: datetime) -> DaysOff | None:
    """Return the days that are asked for if the exchange was closed on all of them, else None."""
    start, end = since or as_of, as_of or seoul_date(now)
    return DaysOff(start, end) if start and has_no_session(con, start, end, now) else None


def has_no_session(con: duckdb.DuckDBPyConnection, start: date, end: date, now: datetime) -> bool:
    """Return whether [start, end] has come (``now`` is UTC) and the exchange is known to be closed throughout."""
    days = session_days(con)
    have_come = bool(days) and days[0] <= start <= end <= min(days[-1], seoul_date(now))
    return have_come and not Sessions(days).between(start, end)
