"""What several commands share: dates as arguments, JSON as an answer, the clock."""

from datetime import UTC, date, datetime
from typing import Any

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")


class SessionDate(click.ParamType[date]):
    """A date written 2024-06-28."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """Return the date, or say how one is written."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a date like 2024-06-28", param, ctx)


SESSION_DATE = SessionDate()


def utc_now() -> datetime:
    """Return the clock, once, at the border: everything below is told the time."""
    return datetime.now(UTC).replace(tzinfo=None)
