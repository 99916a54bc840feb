"""Questions of one day each: which days are asked, and an answer that two datasets are read from."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

_SATURDAY = 5


def weekdays(start: date, end: date) -> list[date]:
    """Return the days from ``start`` through ``end`` on which an exchange may be open."""
    days = (start + timedelta(days=n) for n in range((end - start).days + 1))
    return [day for day in days if day.weekday() < _SATURDAY]


@dataclass
class _Told:
    question: tuple[object, ...]
    answer: pl.DataFrame
    read_by: set[str]


class SharedAnswers:
    """The last answers, each kept until the datasets that share it have read it once.

    Prices and market values are columns of one answer. A dataset that asks a second time wants news: it is sent again.
    """

    def __init__(self, keep: int = 2) -> None:
        self._keep = keep
        self._told: list[_Told] = []

    def get(self, question: tuple[object, ...], dataset: str, ask: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """Return the answer that another dataset got to ``question``, or ask."""
        for told in self._told:
            if told.question == question and dataset not in told.read_by:
                told.read_by.add(dataset)
                return told.answer
        answer = ask()
        others = [told for told in self._told if told.question != question]
        self._told = [*others, _Told(question, answer, {dataset})][-self._keep :]
        return answer
