"""How Korean sources write numbers and dates, as polars expressions: ``1,234``, blank, ``-``, ``2026/11/25``.

A blank is unknown, never 0. Text that is neither blank nor what it should be means that the source has changed.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import polars as pl

from kstock_batch.errors import SourceChanged
from kstock_batch.market.tables import ColumnType

BLANKS = ("", "-", "--", ".", "N/A")
"""What stands where a source has no value; FRED writes a period."""

UPDATE = "compare with the source's own page, then update kstock-batch; other sources go on in the meantime"


class Field(NamedTuple):
    """A column of an answer and what its text stands for: Field("TDD_CLSPRC", "number")."""

    column: str
    kind: ColumnType


def bare(column: str) -> pl.Expr:
    """Return the text without the space around it; null where it says that there is no value."""
    text = pl.col(column).cast(pl.String).str.strip_chars()
    return pl.when(text.is_in(BLANKS)).then(None).otherwise(text).alias(column)


def number(column: str) -> pl.Expr:
    """Return ``1,234.5`` as a float; null where it is blank or no number."""
    return bare(column).str.replace_all(",", "", literal=True).cast(pl.Float64, strict=False)


def count(column: str) -> pl.Expr:
    """Return ``1,234`` (or ``1234.0``) as an integer; null where it is blank or not whole."""
    plain = bare(column).str.replace_all(",", "", literal=True).str.replace(r"\.0+$", "")
    return plain.cast(pl.Int64, strict=False)


def day(column: str) -> pl.Expr:
    """Return ``20261125``, ``2026/11/25``, ``2026-11-25`` or ``2026.11.25`` as a date; null where it is none."""
    digits = bare(column).str.replace_all(r"[/.\-]", "")
    return pl.when(digits.str.contains(r"^\d{8}$")).then(digits).str.to_date("%Y%m%d", strict=False).alias(column)


_READ = {"text": bare, "number": number, "count": count, "date": day}


def as_text(rows: Iterable[object], *, of: str) -> pl.DataFrame:
    """Return the rows of a JSON answer as a frame of texts, with every column that any of them has.

    Raises
    ------
    SourceChanged : a row is no set of named values
    """
    told = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise SourceChanged(f"{of} answers {str(row)[:80]!r} where a row with named values should be", fix=UPDATE)
        told.append({str(name): None if value is None else str(value) for name, value in row.items()})
    columns = dict.fromkeys(name for row in told for name in row)
    return pl.DataFrame(told, schema=dict.fromkeys(columns, pl.String), orient="row")


def read_fields(answer: pl.DataFrame, wanted: Mapping[str, Field], *, of: str) -> pl.DataFrame:
    """Return the columns of ``wanted`` by our names and in their types, read from a source's answer.

    ``of`` names the source and the question in errors: "krx stk_bydd_trd".

    Raises
    ------
    SourceChanged : a column is absent, or a text in it is neither blank nor of its kind
    """
    if absent := sorted({field.column for field in wanted.values()} - set(answer.columns)):
        raise SourceChanged(f"{of} answers without {absent}; it has {sorted(answer.columns)}", fix=UPDATE)
    read = answer.select(_READ[field.kind](field.column).alias(name) for name, field in wanted.items())
    for name, field in wanted.items():
        lost = answer.select(bare(field.column)).to_series().is_not_null() & read[name].is_null()
        if lost.any():
            shown = answer[field.column].filter(lost).head(3).to_list()
            raise SourceChanged(f"{of} answers {shown} where {field.column} should be a {field.kind}", fix=UPDATE)
    return read
