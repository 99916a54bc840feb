"""What the data show of the calendar: a listed session on which nothing traded, and an unlisted one on which much did.

2026-06-03 and 2026-07-17 were such closures. A source says so in one of three ways: zeros as volumes, the rows of the
session before once more, or nothing at all. Nothing at all is also what a source says that is late or broken, so it
takes two of them three hours after the close, or one after the next session. One stock that traded is enough against a
closure, however it is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import duckdb
import polars as pl

from kstock_batch.ingest.calendar import extend_calendar, make_calendar, read_overrides, what_happened
from kstock_batch.market.sessions import CLOSE, SETTLING, to_utc
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query

MIN_ROWS = 20  # of a whole market's answer: a few names may all stand still
ECHO_SHARE = 0.9  # of the rows that traded: the last session's close and volume once more is no session of its own
SILENT_SOURCES = 2
SILENT_FOR = timedelta(hours=3)


@dataclass(frozen=True)
class Answer:
    """What one source answered about the prices of one day.

    Attributes
    ----------
    n_rows, n_traded : its rows, and those of them with a volume
    n_echoed : of those with a volume how many repeat the last session's close and volume
    """

    source: str
    n_rows: int
    n_traded: int = 0
    n_echoed: int = 0

    @classmethod
    def of(cls, con: duckdb.DuckDBPyConnection, source: str, day: date, rows: pl.DataFrame) -> "Answer":
        """Return what ``rows`` of raw_price, as the source gave them for ``day``, come to."""
        traded = rows.filter(pl.col("volume") > 0)
        before = Query.load("ingest/close_before").frame(con, start=day)
        echoed = traded.join(before, on=["ticker", "price_basis", "close", "volume"], how="semi")
        return cls(source, rows.height, traded.height, echoed.height)

    @property
    def shows_trading(self) -> bool:
        """Whether stocks traded on that day."""
        return self.n_echoed < ECHO_SHARE * self.n_traded

    @property
    def shows_a_day_off(self) -> bool:
        """Whether it is a market that stood still."""
        return self.n_rows >= MIN_ROWS and not self.shows_trading

    def __str__(self) -> str:
        """Return it in words."""
        if not self.n_rows:
            return f"{self.source} has no rows"
        if not self.n_traded:
            return f"{self.source} has {self.n_rows:,} rows without a trade"
        repeats = f", {self.n_echoed:,} as on the session before" if self.n_echoed else ""
        return f"{self.source} has {self.n_traded:,} stocks that traded{repeats}"


def was_open(answers: Sequence[Answer], since_close: timedelta, *, is_over: bool) -> bool | None:
    """Return whether a day was a session by what was answered so long after its close; None = who knows.

    ``answers``: of the sources that answered; one that failed, or whose rows come the next day, is not among them.
    ``is_over``: the next session has closed, too, so that every source has told of this one.
    """
    if any(answer.shows_trading for answer in answers):
        return True if sum(a.n_traded for a in answers if a.shows_trading) >= MIN_ROWS else None
    if since_close < SETTLING:
        return None
    if any(answer.shows_a_day_off for answer in answers):
        return False
    n_silent = sum(answer.n_rows == 0 for answer in answers)
    is_sure = since_close >= SILENT_FOR and n_silent >= SILENT_SOURCES
    return False if is_sure or (n_silent and is_over) else None


def settle_session(
    con: duckdb.DuckDBPyConnection, settings: Settings, run: Run, day: date, answers: Sequence[Answer]
) -> str | None:
    """Make the calendar hold what was answered of ``day``; return what changed in words, None where nothing did.

    To be called in a transaction of the caller's, before the day's rows are judged: the contract asks the calendar.
    A calendar file that speaks of the day has the last word, and so have stored trades.
    """
    known = extend_calendar(con, settings, run)
    if day >= max(known) or day < min(known) or read_overrides(settings).speaks_of(day):
        return None
    closes_at = known[day].closes_at if day in known else to_utc(day, CLOSE)
    following = min(hours.closes_at for other, hours in known.items() if other > day)
    is_session = was_open(answers, run.started_at - closes_at, is_over=run.started_at >= following)
    if is_session is None or is_session == (day in known) or (is_session and day.weekday() >= 5):
        return None
    if not is_session and what_happened(con, day):
        return None
    why = "; ".join(map(str, answers))
    con.execute("DELETE FROM observed_session WHERE session = $day", {"day": day})
    con.execute(
        "INSERT INTO observed_session VALUES ($day, $is_session, $why, $run_id, $now)",
        {"day": day, "is_session": is_session, "why": why, "run_id": run.run_id, "now": run.started_at},
    )
    closes: dict[date, datetime] = {other: hours.closes_at for other, hours in known.items() if other != day}
    make_calendar(con, known, dict(sorted((closes | ({day: closes_at} if is_session else {})).items())), settings, run)
    return f"{day} was {'a session' if is_session else 'no session'} of the exchange after all: {why}"
