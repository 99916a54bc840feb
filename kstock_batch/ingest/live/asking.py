"""Asking sources: every answer or the reason there is none, and who need not be asked again in this run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from kstock_batch.errors import (
    BudgetSpent,
    CredentialRefused,
    KStockError,
    SourceBlocked,
    SourceChanged,
    SourceUnreachable,
)
from kstock_batch.ingest.live.datasets import DATASETS
from kstock_batch.ingest.sources.live import Source

# One unreachable answer may be an accident; a shape that changed for one day of the past, too.
UNREACHABLE_TWICE, CHANGED_THRICE = 2, 3


@dataclass(frozen=True)
class Reply:
    """What a source said: rows (perhaps none), or ``why`` there are none."""

    rows: pl.DataFrame | None
    why: str | None
    n_calls: int


@dataclass(frozen=True)
class Reach:
    """The days a run is about: a source that answers for a whole year is asked for those of them at once."""

    start: date
    end: date

    def within(self, year: int) -> tuple[date, date]:
        """Return its first and last day in ``year``."""
        return max(self.start, date(year, 1, 1)), min(self.end, date(year, 12, 31))


class Asker:
    """Asks the sources of one run.

    ``reach``: the days of a backfill. A source that tells of a whole year or range of sessions at once is asked for
    a year of them at a time, and what it says is kept until the next year.
    """

    def __init__(self, sources: Sequence[Source], reach: Reach | None = None) -> None:
        self.sources = tuple(sources)
        self.reach = reach
        self._shut: dict[tuple[str, str], KStockError] = {}
        self._strikes: Counter[tuple[str, str]] = Counter()
        self._years: dict[tuple[str, str], tuple[int, pl.DataFrame]] = {}

    @property
    def n_calls(self) -> int:
        """Requests that all of them have sent so far."""
        return sum(source.n_calls for source in self.sources)

    def offering(self, dataset: str) -> list[Source]:
        """Return the sources that have a dataset, in their order."""
        return [source for source in self.sources if dataset in source.offers]

    def why_shut(self, source: Source, dataset: str) -> KStockError | None:
        """Return why the source need not be asked for the dataset again, or None."""
        return self._shut.get((source.name, "")) or self._shut.get((source.name, dataset))

    def ask(self, source: Source, dataset: str, start: date, end: date) -> Reply:
        """Return the rows from ``start`` through ``end``, or why there are none."""
        before = source.n_calls
        if closed := self.why_shut(source, dataset):
            return Reply(None, closed.what, 0)
        try:
            rows = self._rows(source, dataset, start, end)
        except (SourceBlocked, BudgetSpent) as error:
            self._shut[source.name, ""] = error
            return Reply(None, error.what, source.n_calls - before)
        except CredentialRefused as error:  # a login that is refused again and again may be locked
            self._shut[source.name, dataset] = error
            return self._failed(source, "", error, before)
        except SourceChanged as error:
            return self._failed(source, dataset, error, before, patience=CHANGED_THRICE)
        except SourceUnreachable as error:
            return self._failed(source, "", error, before)
        self._strikes[source.name, ""] = self._strikes[source.name, dataset] = 0
        return Reply(rows, None, source.n_calls - before)

    def _rows(self, source: Source, dataset: str, start: date, end: date) -> pl.DataFrame:
        is_long = source.offers[dataset] != "day" and DATASETS[dataset].table.on_session
        if self.reach is None or start != end or not is_long:
            return source.fetch(dataset, start, end)
        year, key = start.year, (source.name, dataset)
        if key not in self._years or self._years[key][0] != year:
            self._years[key] = (year, source.fetch(dataset, *self.reach.within(year)))
        return self._years[key][1].filter(pl.col("session") == start)

    def _failed(
        self, source: Source, dataset: str, error: KStockError, before: int, *, patience: int = UNREACHABLE_TWICE
    ) -> Reply:
        self._strikes[source.name, dataset] += 1
        if self._strikes[source.name, dataset] >= patience:
            self._shut[source.name, dataset] = error
        return Reply(None, error.what, source.n_calls - before)
