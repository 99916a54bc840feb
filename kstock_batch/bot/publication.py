"""The published file as the bot's process sees it: attached, followed through every replacement, aged in sessions.

Standard library, duckdb (1.4 or later) and Python 3.9 syntax only. The statements stand here rather than under sql/
because the bot's environment has nothing that could load and check them.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb

from kstock_batch.errors import NoPublication
from kstock_batch.quoting import quoted_text

SCHEMA_VERSION = 2  # 2: degraded_why, which whoever acts on a row must know of
# 18:30 in Seoul, if the publication's own calendar does not say: a session counts as missing only once the job could
# have scored it.
CUTOFF_UTC = time(9, 30)


@dataclass(frozen=True)
class PublicationFacts:
    """What a publication says of itself; ``n_predictions`` counts all its sessions.

    ``degraded_why`` tells which gates its newest session failed; None = it passed all of them.
    """

    schema_version: int
    as_of: date
    previous_as_of: date | None
    published_at: datetime
    run_id: str
    n_predictions: int
    n_sessions: int
    model_version: str
    fingerprint: str
    digest: str
    degraded_why: str | None


_MEND = "run `kstock-batch score` to publish a sound file, or `kstock-batch predictions rollback`"
_VERSION = "SELECT schema_version FROM publication"
_FACTS = f"SELECT {', '.join(field.name for field in fields(PublicationFacts))} FROM publication"
_CALENDAR = "SELECT session, cutoff_at FROM calendar WHERE session > $as_of ORDER BY session"


def age_in_sessions(as_of: date, calendar: Sequence[tuple[date, datetime]], now: datetime) -> int:
    """Return how many sessions after ``as_of`` were complete at ``now`` (naive UTC).

    ``calendar`` holds (session, cutoff) after ``as_of``, in order. Beyond its end every weekday counts as a session:
    a verdict of stale can then come a holiday early, never late.
    """
    known = bisect_right([cutoff for _, cutoff in calendar], now)
    end, cutoff = (calendar[-1][0], calendar[-1][1].time()) if calendar else (as_of, CUTOFF_UTC)
    return known + _weekdays_after(end, now, cutoff)


def _weekdays_after(end: date, now: datetime, cutoff: time) -> int:
    """Return how many weekdays after ``end`` had reached the cutoff (UTC) at ``now``."""
    last = now.date() if now.time() >= cutoff else now.date() - timedelta(days=1)
    weeks, days = divmod(max((last - end).days, 0), 7)
    return 5 * weeks + sum((last - timedelta(days=n)).weekday() < 5 for n in range(days))


class _NotForUs(Exception):
    """A sound file that this reader cannot use, and what to do."""

    def __init__(self, what: str, *, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class FollowedFile:
    """The file at a path, through all its replacements: the newest good one is attached to one private connection.

    DuckDB caches an opened database by its path while any connection lives, so a new connection would see the old
    file. A second ATTACH in the same instance does not. Only when the new file has answered is the old one let go.

    Attributes
    ----------
    facts, calendar : of the publication attached; None and empty while there is none
    problem, fix : why the file now at ``path`` is not the one attached and what to do, or None
    """

    def __init__(self, path: Path, probe: str) -> None:
        self.path = path
        self.facts: PublicationFacts | None = None
        self.calendar: list[tuple[date, datetime]] = []
        self.problem: str | None = None
        self.fix: str | None = None
        self._probe = probe  # takes $as_of; a file that cannot answer it is not accepted
        self._con: duckdb.DuckDBPyConnection | None = None
        self._identity: tuple[int, int, int] | None = None
        self._attached = "memory"
        self._n_attached = 0

    def refresh(self) -> bool:
        """Attach the file if it is another than the one attached, and return whether it was."""
        try:
            stat = os.stat(self.path)
            identity = (stat.st_dev, stat.st_ino, stat.st_mtime_ns)
            is_new = identity != self._identity
            if is_new:
                self._attach()
        except FileNotFoundError:
            self.problem, self.fix = f"{self.path} does not exist", "run `kstock-batch score`"
            return False
        except (OSError, duckdb.Error, _NotForUs) as error:
            self.problem = f"{self.path} cannot be used: {_first_line(error)}"
            self.fix = error.fix if isinstance(error, _NotForUs) else _MEND
            return False
        self._identity, self.problem, self.fix = identity, None, None
        return is_new

    def rows(self, statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Return a statement's rows from the publication attached."""
        try:
            return self._fetch(statement, params)
        except duckdb.Error as error:
            # Damaged blocks show only when read, and some errors disable the whole instance: begin anew next time.
            self.close()
            raise NoPublication(
                f"{self.path} cannot be read: {_first_line(error)}",
                fix=_MEND,
            ) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._con is not None:
            self._con.close()
        self._con, self._identity, self._attached = None, None, "memory"
        self.facts, self.calendar = None, []

    def _attach(self) -> None:
        """Attach the file now at the path beside the old one, ask it, then let the old one go."""
        log = self.path.with_name(f"{self.path.name}.wal")
        if log.exists():  # DuckDB would play it into what we read
            what = f"{log.name} lies beside it, so another program has opened it for writing"
            raise _NotForUs(what, fix="end that program, then run `kstock-batch score`")
        if self._con is None:
            # One thread: a point query takes 0.9 ms instead of 1.6, and the bot needs its cores.
            self._con = duckdb.connect(":memory:", config={"threads": 1})
        self._n_attached += 1
        old, new = self._attached, f"publication_{self._n_attached}"
        self._con.execute(f"ATTACH {quoted_text(self.path)} AS {new} (READ_ONLY)")
        try:
            self._con.execute(f"USE {new}")
            facts, calendar = self._ask()
        except BaseException:
            self._con.execute(f"USE {old}")
            self._con.execute(f"DETACH {new}")
            raise
        self._attached, self.facts, self.calendar = new, facts, calendar
        if old != "memory":
            self._con.execute(f"DETACH {old}")

    def _ask(self) -> tuple[PublicationFacts, list[tuple[date, datetime]]]:
        """Return the facts and the coming sessions of the publication in use, or raise if it will not do."""
        try:
            stated = self._fetch(_FACTS, {})
        except duckdb.BinderException:  # another schema may lack what we ask for, but says which one it is
            stated = self._fetch(_VERSION, {})
        versions = [row[0] for row in stated]
        if versions != [SCHEMA_VERSION]:
            told = ", ".join(str(version) for version in versions) or "none"
            is_older = len(versions) == 1 and versions[0] < SCHEMA_VERSION
            fix = "run `kstock-batch score`, which publishes it anew" if is_older else "upgrade kstock-batch"
            raise _NotForUs(f"its schema version is {told}, this reader knows {SCHEMA_VERSION}", fix=fix)
        facts = PublicationFacts(*stated[0])
        self._fetch(self._probe, {"as_of": facts.as_of})
        return facts, [(row[0], row[1]) for row in self._fetch(_CALENDAR, {"as_of": facts.as_of})]

    def _fetch(self, statement: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
        assert self._con is not None  # asked only while a publication is attached
        return self._con.execute(statement, params).fetchall()


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
