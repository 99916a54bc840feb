"""When a session's rows of a dataset are final: before that they are provisional, and nobody is asked for them."""

from datetime import date, datetime, timedelta

from kstock_batch.errors import DataNotReady
from kstock_batch.ingest.live.datasets import DATASETS, LiveDataset
from kstock_batch.market.sessions import KST_OFFSET, Sessions, to_utc


def final_at(dataset: LiveDataset, session: date, sessions: Sessions) -> datetime:
    """Return the UTC instant from which the rows of ``session`` are final."""
    following = sessions.between(session, sessions.days[-1])
    day = following[min(dataset.plus_sessions, len(following) - 1)]
    return to_utc(day, dataset.final_at)


def final_sessions(dataset: LiveDataset, start: date, end: date, sessions: Sessions, now: datetime) -> list[date]:
    """Return the sessions in [start, end] whose rows are final at ``now``, oldest first."""
    return [day for day in sessions.between(start, end) if final_at(dataset, day, sessions) <= now]


def newest_final_session(sessions: Sessions, now: datetime) -> date:
    """Return the newest session whose prices are final at ``now``."""
    today = (now + KST_OFFSET).date()
    return final_sessions(DATASETS["price"], today - timedelta(days=30), today, sessions, now)[-1]


def require_final(session: date, sessions: Sessions, now: datetime) -> None:
    """Raise if not even the prices of ``session`` are final."""
    if (at := final_at(DATASETS["price"], session, sessions)) > now:
        raise DataNotReady(
            f"the prices of {session} are provisional until {at + KST_OFFSET:%Y-%m-%d %H:%M} in Seoul",
            fix="run it again then, or name an earlier session with --as-of",
        )
