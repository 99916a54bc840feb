"""What a live source is: a name, what it offers, what it needs, and rows of a dataset between two days."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

import polars as pl

Span = Literal["day", "year", "range"]
"""What one question covers: a day, the file of a whole year, or any range of days."""


@dataclass(frozen=True)
class Need:
    """Something a source cannot do without, and how to come by it."""

    what: str  # "KSTOCK_KRX_KEY is not set", "the package pykrx is not installed"
    fix: str


class Source(Protocol):
    """A live source. It stores nothing: it asks, reads the answer and returns rows."""

    @property
    def name(self) -> str:
        """What it is called in settings, on the command line and in the column ``source``."""

    @property
    def adds(self) -> str:
        """One line: what a store gains by it."""

    @property
    def offers(self) -> Mapping[str, Span]:
        """The datasets it has (keys of DATASETS), each with what one question covers."""

    @property
    def n_calls(self) -> int:
        """Requests sent so far, retries included."""

    def needs(self) -> list[Need]:
        """Return what is missing before it can be asked; [] = it is ready. Sends nothing."""

    def fetch(self, dataset: str, start: date, end: date) -> pl.DataFrame:
        """Return the rows of ``dataset`` for the days from ``start`` through ``end``, both included.

        The frame has exactly the columns of the dataset's table, then ``source`` and ``available_at`` (UTC, naive), in
        the types of the store. No rows: the source has none for these days (not published yet, or the exchange was
        closed). A row that cannot be right is returned as it came; the contract judges it.

        Raises
        ------
        SourceUnreachable : no answer in time, after the retries that were worth it
        SourceBlocked : the source has shut us out, or a recent block still holds: it is not asked
        SourceChanged : the answer has another shape than was agreed; names what is absent
        CredentialRefused : a key or login is not accepted
        BudgetSpent : the day's calls are used up
        """
