"""The job's features of its newest session, read once from each publication and then kept in memory.

Standard library, duckdb (1.4 or later) and Python 3.9 syntax only.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from kstock_batch.bot.publication import FollowedFile
from kstock_batch.errors import NoPublication
from kstock_batch.quoting import quoted_name

_PROBE = "SELECT ticker FROM feature_latest WHERE as_of = $as_of LIMIT 1"
_COLUMNS = """
    SELECT column_name FROM duckdb_columns()
    WHERE database_name = current_database() AND table_name = 'feature_latest' ORDER BY column_index
"""
# Facts about a row; every other column is a feature, so that a new one needs no change here.
_ROW_FACTS = frozenset(
    ("ticker", "as_of", "close", "bars_available", "null_feature_count", "is_scoreable", "feature_set_version")
)


@dataclass(frozen=True)
class NightlyFeatures:
    """The features of one session by ticker; those that were not known are absent. ``as_of`` None = nothing read."""

    as_of: date | None = None
    values: dict[str, dict[str, float]] = field(default_factory=dict)

    def on(self, day: date) -> dict[str, dict[str, float]]:
        """Return what is known of ``day``: everything on the session itself, nothing on any other."""
        return self.values if day == self.as_of else {}


class PublishedFeatures:
    """The nightly features at ``path`` (None = none are wanted), through all replacements of the file.

    Attributes
    ----------
    problem : why the file now at ``path`` is not the one last given, or None
    """

    def __init__(self, path: Path | None) -> None:
        self.path = None if path is None else path.absolute()
        self.problem: str | None = None
        self._file = None if self.path is None else FollowedFile(self.path, _PROBE)
        self._newest = NightlyFeatures()
        self._lock = threading.Lock()  # a DuckDB connection serves one thread at a time

    def newest(self) -> NightlyFeatures:
        """Return the newest good publication's features: what the bot wrote itself never fails for want of them."""
        if self._file is None:
            return self._newest
        with self._lock:
            is_new = self._file.refresh()
            self.problem = self._file.problem
            try:
                if is_new:
                    self._newest = _read(self._file)
            except NoPublication as error:  # damage shows only when read; the file is tried again by the next call
                self.problem = error.what
            return self._newest

    def close(self) -> None:
        """Let go of the file; the next question opens it again."""
        if self._file is not None:
            with self._lock:
                self._file.close()


def _read(file: FollowedFile) -> NightlyFeatures:
    """Return all features of the publication attached."""
    assert file.facts is not None  # asked only when one has just been attached
    as_of = file.facts.as_of
    names = [name for (name,) in file.rows(_COLUMNS, {}) if name not in _ROW_FACTS]
    columns = ", ".join(["ticker", *map(quoted_name, names)])
    rows = file.rows(f"SELECT {columns} FROM feature_latest WHERE as_of = $as_of ORDER BY ticker", {"as_of": as_of})
    known = {
        row[0]: {name: float(row[n]) for n, name in enumerate(names, start=1) if row[n] is not None} for row in rows
    }
    return NightlyFeatures(as_of, known)
