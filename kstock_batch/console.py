"""What a person sees: results on stdout, everything else on stderr. The only module that prints.

Everybody else writes English sentences; where the language is Korean they are said in Korean here, at the border.

What is printed may come from anywhere: no text of it is taken for markup, moves a terminal's cursor, or is a secret.
rich is imported by what draws with it: a night prints two lines.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from kstock_batch.redaction import redacted, redacted_values

Row = Mapping[str, Any]
Advance = Callable[..., None]  # of a progress bar: (label, steps=, total=)

LONGEST_UNWRAPPED = 24
NARROWEST_WRAPPED = 16  # a text in a narrower column is a stack of syllables
BESIDE_LABEL = 44  # places of a progress bar's line: the bar, how many of how many, both times
_is_quiet = False
_language = "en"
# Terminals obey these characters. Line breaks and tabs stay.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def table(title: str, rows: Sequence[Row], *, decimals: int = 4, by_row: bool = False, as_asked: bool = False) -> None:
    """Print rows as a table on stdout; the first row names the columns.

    The largest number of a column decides how many decimals it shows; ``by_row``: of a row, each in its own unit.
    ``as_asked``: heads and texts are somebody's own, of a question in SQL, and are said as they are.
    """
    if not rows:
        click.echo(said(f"{title}: no rows"))
        return
    title = said(title)
    if not as_asked and _language != "en":
        rows = [{_said_head(name): _said_cell(value) for name, value in row.items()} for row in rows]
    from rich.console import Console

    shown = [_decimals(row.values(), decimals) for row in rows] if by_row else None
    columns = {name.translate(_CONTROL): _cells([row[name] for row in rows], decimals, shown) for name in rows[0]}
    console = Console(markup=False, emoji=False)
    # A pipe has no width: give the rows theirs, so that `grep` and `less -S` see whole lines.
    if not console.is_terminal:
        console.width = 400
    elif len(columns) > 2 and _narrowest(columns) > console.width:
        _stack(console, title, columns)
        return
    console.print(_drawn(title, columns, {name.translate(_CONTROL) for name in rows[0] if _are_numbers(rows, name)}))


def _said_cell(value: Any) -> Any:
    """Return a cell; one that holds a sentence is said in the language that is spoken, a word is a name."""
    return said(value) if isinstance(value, str) and " " in value else value


def _drawn(title: str, columns: Mapping[str, list[str]], numbers: Collection[str]) -> Any:
    """Return the table with one line a row, numbers to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    drawn = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name, cells in columns.items():
        # In a narrow terminal long texts give way, not numbers.
        drawn.add_column(
            name, justify="right" if name in numbers else "left", no_wrap=_stays_whole(cells), overflow="fold"
        )
    for line in zip(*columns.values(), strict=True):
        drawn.add_row(*line)
    return drawn


def _stack(console: Any, title: str, columns: Mapping[str, list[str]]) -> None:
    """Print each row as a block of its own, a line a cell: for a terminal that is too narrow for the columns."""
    from rich.table import Table

    console.print(title, style="bold", highlight=False)
    for line in zip(*columns.values(), strict=True):
        block = Table.grid(padding=(0, 2, 0, 0))
        block.add_column(style="bold", no_wrap=True)
        block.add_column(overflow="fold")
        for name, cell in zip(columns, line, strict=True):
            block.add_row(name, cell)
        console.print()
        console.print(block)
    console.print()


def _narrowest(columns: Mapping[str, list[str]]) -> int:
    """Return the width below which a table of the columns would cut numbers or stack syllables."""
    from rich.cells import cell_len  # a Korean letter takes two places

    widths = [
        max(map(cell_len, (name, *cells))) if _stays_whole(cells) else max(cell_len(name), NARROWEST_WRAPPED)
        for name, cells in columns.items()
    ]
    return sum(widths) + 2 * len(widths)  # two places between columns, one at each edge


def _stays_whole(cells: Sequence[str]) -> bool:
    return max(map(len, cells)) <= LONGEST_UNWRAPPED


def _are_numbers(rows: Sequence[Row], name: str) -> bool:
    known = next((row[name] for row in rows if row[name] is not None), None)
    return isinstance(known, int | float) and not isinstance(known, bool)


def document(value: object) -> None:
    """Print one JSON document on stdout."""
    told = redacted_values(value)
    click.echo(json.dumps(told, ensure_ascii=False, indent=2, default=lambda odd: redacted(str(odd))))


def result(line: str) -> None:
    """Print the summary line of a command on stdout."""
    click.echo(redacted(said(line)).translate(_CONTROL))


def text(piece: str) -> None:
    """Print a piece of a longer text on stdout, as it is."""
    click.echo(piece, nl=False)


def speak(language: str) -> None:
    """Say from now on everything a person reads in ``language``: en or ko."""
    global _language  # a process has one terminal
    _language = language


def is_korean() -> bool:
    """Return whether Korean is spoken."""
    return _language == "ko"


def said(line: str) -> str:
    """Return an English sentence in the language that is spoken."""
    if _language != "ko":
        return line
    from kstock_batch.korean import catalogue  # not for those who read English

    return catalogue.said(line)


def _said_head(column: str) -> str:
    if _language != "ko":
        return column
    from kstock_batch.korean import catalogue

    return catalogue.head(column)


def be_quiet(quiet: bool) -> None:
    """Say from now on nothing but results and errors, or everything again."""
    global _is_quiet  # a process has one terminal
    _is_quiet = quiet


def note(line: str) -> None:
    """Print what happened on the way on stderr, unless nobody wants to hear of it."""
    if not _is_quiet:
        _tell(line)


def error(told: Exception) -> None:
    """Print why a command ends on stderr, whoever is quiet."""
    _tell(f"error: {told}")


def alert(line: str) -> None:
    """Print a line on stderr, whoever is quiet."""
    _tell(line)


def _tell(line: str) -> None:
    click.echo(redacted(said(line)).translate(_CONTROL), err=True)


@contextmanager
def progress(what: str, total: int) -> Iterator[Any]:
    """Yield a function that advances a bar on stderr; the bar exists only in a terminal and vanishes at the end."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=_is_quiet or not console.is_terminal) as bar:
        job = Text(said(what))
        task = bar.add_task(job.plain, total=total)

        def advance(label: str | None = None, steps: int = 1, total: int | None = None) -> None:
            told = job if label is None else Text(f"{job.plain}: {said(label)}".translate(_CONTROL))
            told.truncate(max(console.width - BESIDE_LABEL, job.cell_len), overflow="ellipsis")  # the times stay whole
            bar.update(task, advance=steps, total=total, description=told.plain)

        yield advance


def _cells(values: Sequence[object], decimals: int, by_row: Sequence[int] | None) -> list[str]:
    """Return one column's texts."""
    shown = by_row or [_decimals(values, decimals)] * len(values)
    return [_cell(value, number) for value, number in zip(values, shown, strict=True)]


def _decimals(values: Iterable[object], most: int) -> int:
    """Return how many decimals all of ``values`` show: few where one of them is large."""
    largest = max((abs(value) for value in values if isinstance(value, float)), default=0.0)
    return most if largest < 10 else min(most, 2) if largest < 1000 else 0


def _cell(value: object, decimals: int) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.{decimals}f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).translate(_CONTROL)
