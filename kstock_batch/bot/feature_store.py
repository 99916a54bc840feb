"""The bot's feature store: features it computed itself, and those that the nightly job published.

    store = FeatureStore("features.duckdb", published="warehouse/serving/predictions.duckdb")
    store.add_feature("005930", "2026-10-30", "news_score", 0.7, source="news")
    store.get_features("005930", "2026-10-30")     # the night's 30 and news_score

The two are read as one. A key is (ticker, date, name); what the bot wrote itself wins over what was published. Own
rows live in a file of their own, so the job, which never opens it, is never in the way and never waits. Of the
published ones there is the newest session alone: the bot that wants their history stores them each morning.

Standard library, duckdb (1.4 or later) and Python 3.9 syntax only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from kstock_batch.bot.feature_file import FeatureFile
from kstock_batch.bot.feature_rows import (
    FeatureRow,
    checked_count,
    checked_date,
    checked_name,
    checked_rows,
    checked_ticker,
)
from kstock_batch.bot.nightly_features import PublishedFeatures
from kstock_batch.bot.reader import utc_now
from kstock_batch.errors import ConfigError

_SEOUL = timedelta(hours=9)
_FEATURES = "SELECT name, value FROM feature WHERE date = $day AND ticker = $ticker ORDER BY name"
_HISTORY = """
    SELECT date, value FROM feature
    WHERE ticker = $ticker AND name = $name AND date BETWEEN $start AND $end ORDER BY date
"""
_CROSS_SECTION = "SELECT ticker, value FROM feature WHERE date = $day AND name = $name ORDER BY ticker"
_DATES = "SELECT DISTINCT date FROM feature WHERE date < $before"
_TICKERS = "SELECT DISTINCT ticker FROM feature WHERE date = $day"
_TOTALS = """
    SELECT count(*), count(DISTINCT ticker), count(DISTINCT date), count(DISTINCT name), min(date), max(date)
    FROM feature
"""
_BY_CATEGORY = "SELECT category, count(*) FROM feature GROUP BY category ORDER BY category"
_BY_SOURCE = "SELECT source, count(*) FROM feature GROUP BY source ORDER BY source"
_CLEANUP = "DELETE FROM feature WHERE date < $oldest"


class FeatureStore:
    """The features at ``path``; one object serves all threads of a bot for weeks.

    Each call opens the file and lets go of it, so that several processes get along. A ``with`` block holds it open:
    many calls in a row are then faster, and other processes wait.

    Parameters
    ----------
    path : a DuckDB file of the bot's own, made if it is absent; never one of the job's
    published : the job's published file; while it is absent or damaged the bot's own rows are given alone, and
        ``get_stats`` says why
    wait_seconds : how long a call waits for another process to let go of the file
    clock : returns the time as naive UTC; only ``cleanup_stale`` asks it
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        published: str | os.PathLike[str] | None = None,
        *,
        wait_seconds: float = 5.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if published is not None and Path(path).resolve() == Path(published).resolve():
            raise ConfigError(f"{path} is given as own file and as published one", fix="give a file of its own")
        self._own = FeatureFile(Path(path), wait_seconds)
        self._published = PublishedFeatures(None if published is None else Path(published))
        self._clock = clock
        self._own.rows("SELECT 1")  # a path that cannot be used is said now, not at the first row

    def __enter__(self) -> FeatureStore:
        """Hold the file open until the block ends, and return self."""
        self._own.hold()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let other processes in."""
        self._own.release()

    def close(self) -> None:
        """Let go of both files; the next call opens them again."""
        self._own.close()
        self._published.close()

    def add_feature(
        self, ticker: str, date: str | date, name: str, value: float, category: str = "", source: str = ""
    ) -> None:
        """Store one value, in place of the one with the same ticker, date and name."""
        self.add_features_batch([(ticker, date, name, value, category, source)])

    def add_features_batch(self, rows: Iterable[Any]) -> int:
        """Store rows in one transaction, all or none, and return how many; a later one wins over an earlier.

        Each row holds the arguments of ``add_feature``: a mapping by name, or a sequence in order.
        """
        if kept := checked_rows(rows):
            self._own.replace_rows({name: [row[n] for row in kept] for n, name in enumerate(FeatureRow._fields)})
        return len(kept)

    def get_features(self, ticker: str, date: str | date) -> dict[str, float]:
        """Return a ticker's values of one date by name; a value that is not known is absent."""
        ticker, day = checked_ticker(ticker), checked_date(date)
        own = self._own.rows(_FEATURES, ticker=ticker, day=day)
        return {**self._published.newest().on(day).get(ticker, {}), **dict(own)}

    def get_features_dict(self, ticker: str, date: str | date) -> dict[str, float]:
        """Return what ``get_features`` returns: the bot's versions know it by both names."""
        return self.get_features(ticker, date)

    def get_feature_history(
        self, ticker: str, name: str, start: str | date, end: str | date
    ) -> list[tuple[str, float]]:
        """Return (date, value) from ``start`` to ``end``, both included, oldest first."""
        ticker, name, first, last = checked_ticker(ticker), checked_name(name), checked_date(start), checked_date(end)
        history = dict(self._own.rows(_HISTORY, ticker=ticker, name=name, start=first, end=last))
        nightly = self._published.newest()
        if nightly.as_of is not None and first <= nightly.as_of <= last:
            values = nightly.values.get(ticker, {})
            if name in values:
                history.setdefault(nightly.as_of, values[name])
        return [(day.isoformat(), value) for day, value in sorted(history.items())]

    def get_cross_section(self, date: str | date, name: str) -> dict[str, float]:
        """Return one feature's values of one date by ticker, in the tickers' order."""
        day, name = checked_date(date), checked_name(name)
        own = self._own.rows(_CROSS_SECTION, day=day, name=name)
        nightly = self._published.newest().on(day)
        published = {ticker: values[name] for ticker, values in nightly.items() if name in values}
        return dict(sorted({**published, **dict(own)}.items()))

    def get_available_dates(self, before: str | date = "", limit: int = 60) -> list[str]:
        """Return the newest ``limit`` dates that have features, newest first; with ``before``, only earlier ones."""
        end, limit = checked_date(before or date.max), checked_count(limit, "dates")
        days = {day for (day,) in self._own.rows(_DATES, before=end)}
        as_of = self._published.newest().as_of
        if as_of is not None and as_of < end:
            days.add(as_of)
        return [day.isoformat() for day in sorted(days, reverse=True)[:limit]]

    def get_tickers_for_date(self, date: str | date) -> list[str]:
        """Return the tickers that have features on one date, in order."""
        day = checked_date(date)
        own = self._own.rows(_TICKERS, day=day)
        published = self._published.newest().on(day)
        return sorted({ticker for (ticker,) in own}.union(ticker for ticker, values in published.items() if values))

    def get_stats(self) -> dict[str, Any]:
        """Return what the bot's own file holds, and what is read from the job's and what is wrong with that."""
        with self:
            n_rows, n_tickers, n_dates, n_names, oldest, newest = self._own.rows(_TOTALS)[0]
            by_category, by_source = dict(self._own.rows(_BY_CATEGORY)), dict(self._own.rows(_BY_SOURCE))
        nightly = self._published.newest()
        return {
            "path": str(self._own.path),
            "n_rows": n_rows,
            "n_tickers": n_tickers,
            "n_dates": n_dates,
            "n_names": n_names,
            "oldest_date": _iso(oldest),
            "newest_date": _iso(newest),
            "n_by_category": by_category,
            "n_by_source": by_source,
            "published_path": None if self._published.path is None else str(self._published.path),
            "published_as_of": _iso(nightly.as_of),
            "n_published": sum(map(len, nightly.values.values())),
            "published_problem": self._published.problem,
        }

    def cleanup_stale(self, ttl_days: int) -> int:
        """Remove the bot's own rows dated more than ``ttl_days`` days before today in Seoul; return how many."""
        today = (self._clock() + _SEOUL).date()
        oldest = date.fromordinal(max(today.toordinal() - checked_count(ttl_days, "days"), 1))
        return int(self._own.rows(_CLEANUP, oldest=oldest)[0][0])


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
