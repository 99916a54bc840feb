"""Closed days: a session of the calendar of which no source has prices may have been none.

What the answers show is for ingest/closures.py to tell; here is decided which answers show anything. A source that
never tells of the past, or that has not published yet, is silent about a session as it is about a holiday.
"""

from collections.abc import Sequence
from datetime import date, timedelta

from kstock_batch.ingest.closures import Answer, settle_session
from kstock_batch.ingest.live.asking import Reply
from kstock_batch.ingest.live.intake import Intake
from kstock_batch.market.sessions import seoul_date

# KRX's own interface tells of a session on the next morning; the others are copies, which may be a day behind.
MORNING_AFTER = frozenset({"krx", "fdr", "marcap"})
NEAR = timedelta(days=10)


def settle_day(intake: Intake, day: date, replies: Sequence[tuple[str, Reply]]) -> str | None:
    """Let the calendar learn what sources said of the prices of ``day``; return what changed in words, or None."""
    run = intake.run
    with run.warehouse.transaction() as con:
        answers = [
            Answer.of(con, source, day, reply.rows)
            for source, reply in replies
            if reply.rows is not None and _counts(intake, source, day, reply)
        ]
        told = settle_session(con, intake.settings, run, day, answers)
    if told:
        intake.read_calendar()
    return told


def _counts(intake: Intake, source: str, day: date, reply: Reply) -> bool:
    """Whether a source that says so could have said otherwise: it has told of days nearby, and its time has come."""
    if source in MORNING_AFTER and seoul_date(intake.run.started_at) <= day:
        return False
    is_told = reply.rows is not None and not reply.rows.is_empty()
    near = (day + timedelta(days=n) for n in range(-NEAR.days, NEAR.days + 1))
    return is_told or any(source in intake.known.done_by("price", other) for other in near)
