"""What a person knows of the exchange's calendar and no library does: closures, added sessions, other hours.

The file has up to three tables, each from a date to a text:

    [closed]                        # a day that is no session, and why
    2026-06-03 = "local elections"
    [open]                          # a session that the calendar does not list, and why
    2026-08-17 = "holiday cancelled"
    [closes]                        # when a session closed that did not at 15:30, Seoul time
    2026-11-19 = "16:30"
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from kstock_batch.errors import ConfigError
from kstock_batch.market.sessions import CLOSE, to_utc

TABLES = ("closed", "open", "closes")
EARLIEST, LATEST = time(9), time(20)  # to close at

_DAY = re.compile(r"^[12][0-9]{3}-[01][0-9]-[0-3][0-9]$")
_CLOCK = re.compile(r"^[0-2][0-9]:[0-5][0-9]$")


@dataclass(frozen=True)
class Overrides:
    """A calendar file: days without a session, days with one, closing times in Seoul."""

    path: Path = Path()
    closed: Mapping[date, str] = field(default_factory=dict)
    opened: Mapping[date, str] = field(default_factory=dict)
    closes: Mapping[date, time] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, *, required: bool = False) -> "Overrides":
        """Return what the file says; there need not be one unless it is ``required``."""
        if not (required or path.exists()):
            return cls()
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise _refused(path, f"is no calendar file: {error}") from error
        try:
            return cls.of(given, path)
        except ValueError as error:
            raise _refused(path, str(error)) from error

    @classmethod
    def of(cls, given: Mapping[str, Any], path: Path = Path()) -> "Overrides":
        """Return what the tables say; an entry that cannot be used is a ValueError."""
        if unknown := sorted(given.keys() - set(TABLES)):
            raise ValueError(f"unknown tables {unknown}, it has {list(TABLES)}")
        closed, opened, closes = (_entries(given, name) for name in TABLES)
        for day in sorted(closed.keys() & (opened.keys() | closes.keys())):
            raise ValueError(f"{day} is closed and has a session at once")
        for day in sorted(opened):
            if day.weekday() >= 5:
                raise ValueError(f"[open] {day} is a {day:%A}, on which the exchange never opens")
        return cls(path, closed, opened, {day: _clock(day, at) for day, at in closes.items()})

    def speaks_of(self, day: date) -> bool:
        """Return whether a person has decided if ``day`` is a session."""
        return day in self.closed or day in self.opened

    def applied(self, closes: Mapping[date, datetime]) -> dict[date, datetime]:
        """Return the sessions with their closes (UTC) as the file has them, oldest first; none outside their range."""
        first, last = min(closes), max(closes)
        added = {day: to_utc(day, CLOSE) for day in self.opened if first <= day <= last}
        known = {day: at for day, at in (added | dict(closes)).items() if day not in self.closed}
        if strange := sorted(day for day in self.closes if first <= day <= last and day not in known):
            raise _refused(self.path, f"[closes] {strange[0]} is no session")
        return {day: to_utc(day, self.closes[day]) if day in self.closes else known[day] for day in sorted(known)}


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path}: {why}",
        fix='write lines like 2026-06-03 = "why" under [closed] or [open], 2026-11-19 = "16:30" under [closes]',
    )


def _entries(given: Mapping[str, Any], name: str) -> dict[date, str]:
    table = given.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"{name} = {table!r} is not a table of dates")
    for day, value in table.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"[{name}] {day} = {value!r} is no text")
    return {_day(name, day): value for day, value in table.items()}


def _day(name: str, day: str) -> date:
    try:
        if _DAY.match(day):
            return date.fromisoformat(day)
    except ValueError:  # no day of that month
        pass
    raise ValueError(f"[{name}] {day} is no date like 2026-06-03")


def _clock(day: date, at: str) -> time:
    if _CLOCK.match(at) and at < "24" and EARLIEST <= time.fromisoformat(at) <= LATEST:
        return time.fromisoformat(at)
    raise ValueError(f"[closes] {day} = {at!r} is no time from {EARLIEST:%H:%M} to {LATEST:%H:%M}")
