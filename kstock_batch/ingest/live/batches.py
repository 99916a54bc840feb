"""The ledger of batches: what was asked of which source for which day, and what came of it.

A batch is written in the transaction of its rows. So whatever ends a night, what its ledger calls done is stored, and
the next run asks for nothing twice.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal, Self

import duckdb
import polars as pl

from kstock_batch.redaction import redacted
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import insert_rows

Status = Literal["done", "empty", "partial", "failed"]

_SCHEMA = {
    **{"source": pl.String, "dataset": pl.String, "event_date": pl.Date, "status": pl.String},
    **{"n_rows": pl.Int64, "n_rejected": pl.Int64, "n_calls": pl.Int64, "why": pl.String},
}


@dataclass(frozen=True)
class Batch:
    """What came of asking one source for a dataset and a day; ``why`` it is not done."""

    source: str
    dataset: str
    event_date: date
    status: Status
    n_rows: int = 0
    n_rejected: int = 0
    n_calls: int = 0
    why: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether nobody needs to be asked again."""
        return self.status == "done"

    def of(self, event_date: date) -> Self:
        """Return the same for another day of the same answer; its calls count once."""
        return replace(self, event_date=event_date, n_rows=0, n_rejected=0, n_calls=0)

    def row(self) -> dict[str, Any]:
        """Return it as a row to print or to store."""
        return asdict(self)

    def __str__(self) -> str:
        """Return it as part of a sentence."""
        told = self.why or self.status
        return told if told.startswith(f"{self.source} ") else f"{self.source} {told}"


def write_batches(con: duckdb.DuckDBPyConnection, batches: Sequence[Batch], run: Run) -> None:
    """Make the ledger say this of each (source, dataset, day), in a transaction of the caller's."""
    told = [batch.row() | {"why": batch.why and redacted(batch.why)} for batch in batches]
    rows = pl.DataFrame(told, schema=_SCHEMA)
    at = run.started_at + timedelta(seconds=run.seconds)
    con.execute(
        "DELETE FROM ingest_batch"
        " WHERE (source, dataset, event_date) IN (SELECT (source, dataset, event_date) FROM rows)"
    )
    stamped = rows.with_columns(run_id=pl.lit(run.run_id), finished_at=pl.lit(at, pl.Datetime("us")))
    insert_rows(con, "ingest_batch", stamped, order="event_date, dataset, source")


class Known:
    """What the ledger says of some days."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, date], dict[str, tuple[Batch, datetime]]] = {}

    @classmethod
    def between(cls, con: duckdb.DuckDBPyConnection, start: date, end: date) -> Self:
        """Return what is known of the days from ``start`` through ``end``."""
        known = cls()
        columns = ", ".join(_SCHEMA)
        found = con.execute(
            f"SELECT {columns}, finished_at FROM ingest_batch WHERE event_date BETWEEN $start AND $end",
            {"start": start, "end": end},
        ).fetchall()
        for row in found:
            known.add(Batch(*row[:-1]), row[-1])
        return known

    def add(self, batch: Batch, at: datetime) -> None:
        """Take note of a batch."""
        self._found.setdefault((batch.dataset, batch.event_date), {})[batch.source] = (batch, at)

    def of(self, dataset: str, day: date) -> dict[str, tuple[Batch, datetime]]:
        """Return by source what came of asking for the day, and when that was."""
        return self._found.get((dataset, day), {})

    def done_by(self, dataset: str, day: date) -> list[str]:
        """Return the sources that gave the day whole."""
        return [source for source, (batch, _) in self.of(dataset, day).items() if batch.is_done]
