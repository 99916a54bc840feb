"""One answer becomes stored rows and a batch of the ledger, in one transaction: all of it, or only why not."""

from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import duckdb
import polars as pl

from kstock_batch.errors import RowsRefused
from kstock_batch.ingest.calendar import read_calendar
from kstock_batch.ingest.contract import final_rows
from kstock_batch.ingest.live.asking import Reply
from kstock_batch.ingest.live.batches import Batch, Known, Status, write_batches
from kstock_batch.ingest.live.datasets import LiveDataset
from kstock_batch.ingest.live.departures import departed
from kstock_batch.ingest.live.gate import is_untraded, shortfall
from kstock_batch.ingest.live.precedence import news
from kstock_batch.ingest.live.timing import Timetable
from kstock_batch.ingest.pipeline import Arrival, Choose, take_in
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run


@dataclass
class Intake:
    """Where the answers of one run go.

    Attributes
    ----------
    timetable : the calendar as the run knows it by now
    known : the ledger of the days the run is about, kept up to date
    n_new, n_changed : what the run has stored so far
    """

    settings: Settings
    run: Run
    timetable: Timetable
    known: Known
    n_new: int = 0
    n_changed: int = 0
    batches: list[Batch] = field(default_factory=list)

    def read_calendar(self) -> None:
        """Take note of a calendar that has changed."""
        self.timetable = Timetable(read_calendar(self.run.warehouse.con))

    def receive(
        self, source: str, dataset: LiveDataset, days: list[date], reply: Reply, *, choose: Choose | None = None
    ) -> Batch:
        """Store what a source said of ``days`` (the last of them is the one it was asked for) and return the batch.

        An answer that is refused whole leaves nothing but its batch. ``choose``: which of the rows that keep the
        contract are stored, if not all that are news.
        """
        rows, end = reply.rows, days[-1]
        if rows is None:
            return self._note(Batch(source, dataset.name, end, "failed", n_calls=reply.n_calls, why=reply.why), days)
        rows = self._known_by_now(dataset, final_rows(dataset.table, rows, self.timetable.calendar))
        status, why = self._judged(dataset, end, rows)
        batch = Batch(source, dataset.name, end, status, n_calls=reply.n_calls, why=why)
        if status in ("empty", "failed") or (status == "partial" and dataset.is_whole_market):
            return self._note(batch, days)
        try:
            return self._store(batch, dataset, days, rows, choose)
        except RowsRefused as error:
            refused = Batch(source, dataset.name, end, "failed", n_calls=reply.n_calls, why=error.what)
            return self._note(refused, days)

    def _known_by_now(self, dataset: LiveDataset, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows without closes of a day that is not over where it is lived, as New York's after midnight."""
        return rows.filter(pl.col("available_at") <= self.run.started_at) if dataset.name == "macro" else rows

    def _judged(self, dataset: LiveDataset, day: date, rows: pl.DataFrame) -> tuple[Status, str | None]:
        if rows.is_empty():
            return ("done", None) if dataset.may_be_none else ("empty", "has nothing yet")
        if dataset.table.on_session and (odd := rows.filter(pl.col("session") != day)).height:
            return "failed", f"answers with rows of {odd['session'][0]} when asked for {day}"
        if is_untraded(dataset, rows):
            return "empty", "tells of a day on which nothing traded"
        why = shortfall(self.run.warehouse.con, dataset, day, rows, self.settings)
        return ("partial", why) if why else ("done", None)

    def _store(
        self, batch: Batch, dataset: LiveDataset, days: list[date], rows: pl.DataFrame, choose: Choose | None
    ) -> Batch:
        """Store what is news of an answer. All of it is judged: a broken one is refused even if little of it is new."""
        arrival = Arrival(dataset.table, batch.source, f"{batch.source}: {dataset.name} of {batch.event_date}", rows)
        with self.run.warehouse.transaction() as con:
            taken = take_in(
                *(con, arrival),
                settings=self.settings,
                run=self.run,
                calendar=self.timetable.calendar,
                choose=choose or (lambda good: self._news(con, dataset, batch.event_date, good)),
            )
            stored = replace(batch, n_rows=rows.height, n_rejected=taken.n_rejected)
            spread = _spread(stored, days, dataset, rows)
            write_batches(con, spread, self.run)
        self.n_new, self.n_changed = self.n_new + taken.n_new, self.n_changed + taken.n_changed
        return self._remember(stored, spread)

    def _news(
        self, con: duckdb.DuckDBPyConnection, dataset: LiveDataset, day: date, good: pl.DataFrame
    ) -> pl.DataFrame:
        said = news(con, dataset.table, good, self.settings.sources)
        return pl.concat([said, departed(con, good, day)]) if dataset.name == "listing" else said

    def _note(self, batch: Batch, days: list[date]) -> Batch:
        """Write down an answer of which nothing is stored."""
        spread = [batch, *(batch.of(day) for day in days[:-1])]
        with self.run.warehouse.transaction() as con:
            write_batches(con, spread, self.run)
        return self._remember(batch, spread)

    def _remember(self, batch: Batch, spread: list[Batch]) -> Batch:
        for one in spread:
            self.known.add(one, self.run.started_at + timedelta(seconds=self.run.seconds))
        self.batches.append(batch)
        return batch


def _spread(batch: Batch, days: list[date], dataset: LiveDataset, rows: pl.DataFrame) -> list[Batch]:
    """Return a batch for each day of one answer, with its own rows; calls and rejects count on the last."""
    if len(days) == 1 or dataset.table.day is None:
        return [batch, *(batch.of(day) for day in days[:-1])]
    n_rows = dict(rows.group_by(dataset.table.day).len().iter_rows())
    return [replace(batch if day == days[-1] else batch.of(day), n_rows=n_rows.get(day, 0)) for day in days]
