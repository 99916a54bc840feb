"""What every second target holds: the predictions and facts of the finished serving file, never of the store.

The file is attached to a private connection and only read. A digest over all of its values tells a target whether it
holds them already, and one for each session which of them it lacks.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from kstock_batch.errors import TargetFailed
from kstock_batch.quoting import quoted_name, quoted_text
from kstock_batch.store.queries import Query

KEYS = {"prediction": ("as_of", "ticker"), "calendar": ("session",), "model_card": ("key",), "publication": ("as_of",)}
VIEWS = {"latest": "serve/latest", "ml_predictions": "serve/view_ml_predictions"}  # name → its statement
LAYOUT = 1  # of our own making in the targets: raising it has every target written anew
SESSIONS_AT_ONCE = 20  # about 50,000 rows
_COMMA_AFTER_THE_LAST = re.compile(r",(\s+FROM\b)")

Columns = Mapping[str, str]  # name → DuckDB's type


@dataclass(frozen=True)
class Content:
    """The serving file, opened for reading.

    Attributes
    ----------
    run_id : the run that published it
    columns : of each relation, in order
    sessions : each predicted session's digest
    layout : digest of the columns and views
    digest : of the layout and of every value but when and by which run it was published: publishing again is no news
    """

    con: duckdb.DuckDBPyConnection
    run_id: str
    columns: Mapping[str, Columns]
    sessions: Mapping[date, str]
    layout: str
    digest: str

    def n_rows(self, relation: str) -> int:
        """Return how many rows a relation has."""
        n_rows: int = self.con.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0]
        return n_rows

    def pieces(
        self, relation: str, *, as_text: Collection[str], days: Collection[date] | None = None
    ) -> Iterator[duckdb.DuckDBPyRelation]:
        """Yield a relation's rows in its key's order, in pieces that keep memory small.

        ``as_text`` = types that are given as text; ``days`` = of these sessions alone, for the predictions.
        """
        cells = (
            f"CAST({quoted_name(name)} AS VARCHAR) AS {quoted_name(name)}" if kind in as_text else quoted_name(name)
            for name, kind in self.columns[relation].items()
        )
        rows, order = f"SELECT {', '.join(cells)} FROM {relation}", ", ".join(map(quoted_name, KEYS[relation]))
        if relation != "prediction":
            yield self.con.sql(f"{rows} ORDER BY {order}")
            return
        due = sorted(self.sessions if days is None else days)
        for at in range(0, len(due), SESSIONS_AT_ONCE):
            some = ", ".join(f"DATE '{day}'" for day in due[at : at + SESSIONS_AT_ONCE])
            yield self.con.sql(f"{rows} WHERE as_of IN ({some}) ORDER BY {order}")


@contextmanager
def published_content(published: Path, *, threads: int) -> Iterator[Content]:
    """Yield the content of the serving file."""
    con = duckdb.connect(":memory:", config={"threads": threads})
    try:
        yield _content(con, published)
    finally:
        con.close()


def portable_view(name: str) -> str:
    """Return the SELECT of a view of the serving file as other engines take it."""
    return _COMMA_AFTER_THE_LAST.sub(r"\1", Query.load(VIEWS[name]).text)


def unreadable(published: Path, error: duckdb.Error) -> TargetFailed:
    """Return the error for a serving file that broke after it was published."""
    return TargetFailed(
        f"{published} cannot be read: {str(error).splitlines()[0]}", fix="run `kstock-batch score` to publish anew"
    )


def _content(con: duckdb.DuckDBPyConnection, published: Path) -> Content:
    try:
        con.execute(f"ATTACH {quoted_text(published)} AS published (READ_ONLY)")
        con.execute("USE published")
        run_id: str = con.execute("SELECT run_id FROM publication").fetchall()[0][0]
        columns = {relation: _columns(con, relation) for relation in KEYS}
        sessions = dict(Query.load("targets/session_digest").frame(con).iter_rows())
        facts = Query.load("targets/fact_digest").frame(con).rows()
    except duckdb.Error as error:
        raise unreadable(published, error) from error
    layout = _digest([LAYOUT, columns, [portable_view(view) for view in VIEWS]])
    return Content(con, run_id, columns, sessions, layout=layout, digest=_digest([layout, [*sessions.items()], facts]))


def _digest(told: object) -> str:
    return hashlib.sha256(json.dumps(told, default=str).encode()).hexdigest()


def _columns(con: duckdb.DuckDBPyConnection, relation: str) -> Columns:
    return {row[0]: row[1] for row in con.execute(f"DESCRIBE {relation}").fetchall()}
