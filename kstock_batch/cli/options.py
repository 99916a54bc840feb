"""What several commands share: dates as arguments, JSON as an answer, where jobs run, the clock."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import click

from kstock_batch.market.sessions import KST_OFFSET

F = TypeVar("F", bound=Callable[..., Any])

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")


def executor_options(command: F) -> F:
    """Give a command --executor, --workers and --address: ``executor``, ``workers`` and ``address``."""
    options = (
        click.option(
            "--executor",
            type=click.Choice(("serial", "process", "ray")),  # executors.KINDS, which would cost every start its import
            help="Where jobs run.  [default: process if there is more than one worker, else serial]",
        ),
        click.option("--workers", type=click.IntRange(1, 1024), help="Jobs at a time."),
        click.option("--address", help="Ray cluster to join, like 10.0.0.1:6379.  [default: one on this machine]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


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


class SeoulInstant(click.ParamType[datetime]):
    """An instant written 2023-05-10T18:30, in Seoul's time unless it says another; naive UTC inside."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the UTC instant, or say how one is written."""
        if isinstance(value, datetime):
            return value
        if "T" not in value and ":" not in value and _is_date(value):
            self.fail(f"{value!r} has no time of day, like 2023-05-10T18:30", param, ctx)
        try:
            instant = datetime.fromisoformat(value)
            return instant - KST_OFFSET if instant.tzinfo is None else instant.astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not an instant like 2023-05-10T18:30", param, ctx)


def _is_date(value: str) -> bool:
    try:
        date.fromisoformat(value)
    except ValueError:
        return False
    return True


SEOUL_INSTANT = SeoulInstant()


def utc_now() -> datetime:
    """Return the clock, once, at the border: everything below is told the time."""
    return datetime.now(UTC).replace(tzinfo=None)
