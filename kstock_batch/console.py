"""What a person sees: results on stdout, everything else on stderr. The only module that prints."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

Row = Mapping[str, Any]

LONGEST_UNWRAPPED = 24


def table(title: str, rows: Sequence[Row], *, decimals: int = 4) -> None:
    """Print rows as a table on stdout; the first row names the columns."""
    if not rows:
        click.echo(f"{title}: no rows")
        return
    drawn = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name, value in rows[0].items():
        cells = [_cell(row[name], decimals) for row in rows]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = max(map(len, cells)) <= LONGEST_UNWRAPPED  # in a narrow terminal long texts give way, not numbers
        drawn.add_column(name, justify="right" if is_number else "left", no_wrap=fits, overflow="fold")
    for row in rows:
        drawn.add_row(*(_cell(value, decimals) for value in row.values()))
    # A pipe has no width: give the rows theirs, so that `grep` and `less -S` see whole lines.
    console = Console()
    console.print(drawn) if console.is_terminal else Console(width=400).print(drawn)


def document(value: object) -> None:
    """Print one JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def result(line: str) -> None:
    """Print the summary line of a command on stdout."""
    click.echo(line)


def note(line: str) -> None:
    """Print what happened on the way on stderr."""
    click.echo(line, err=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Any]:
    """Yield a function that advances a bar on stderr; the bar exists only in a terminal and vanishes at the end."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def advance(label: str | None = None, steps: int = 1) -> None:
            bar.update(task, advance=steps, description=what if label is None else f"{what}: {label}")

        yield advance


def _cell(value: object, decimals: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.{decimals}f}" if abs(value) < 10 else f"{value:,.1f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
