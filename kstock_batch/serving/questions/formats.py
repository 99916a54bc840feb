"""An answer in the forms other programs read: CSV and JSON as text in pieces, Parquet as a file."""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from kstock_batch.files import written_beside
from kstock_batch.serving.questions.ask import Answer


def csv_text(answer: Answer) -> Iterator[str]:
    """Yield the answer as CSV: a header, NULL as nothing, an empty text as two quotes."""
    schema, batches = answer.batches(flat=True)
    yield pl.DataFrame(schema=schema.names).write_csv()
    for batch in batches:
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)  # a record batch is no single column
        yield frame.write_csv(include_header=False)


def json_text(answer: Answer) -> Iterator[str]:
    """Yield the answer as one JSON array, a row a line."""
    before = "[\n"
    for row in answer.rows():
        yield before + _json_of(row)
        before = ",\n"
    yield "[]\n" if answer.n_rows == 0 else "\n]\n"


TEXTS: dict[str, Callable[[Answer], Iterator[str]]] = {"csv": csv_text, "json": json_text}


def write_answer(answer: Answer, form: str, path: Path) -> None:
    """Write the answer to ``path``, whole or not at all."""
    with written_beside(path) as temp:
        if form == "parquet":
            _write_parquet(answer, temp)
        else:
            with temp.open("w", encoding="utf-8", newline="") as file:
                file.writelines(TEXTS[form](answer))


def _write_parquet(answer: Answer, temp: Path) -> None:
    schema, batches = answer.batches(flat=False)
    with pq.ParquetWriter(temp, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def _json_of(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:  # JSON has no NaN and no infinity
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        return json.dumps(finite, ensure_ascii=False, default=str)
