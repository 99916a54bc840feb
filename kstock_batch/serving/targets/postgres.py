"""The PostgreSQL target: tables and views in the schema ``kstock``, brought up to date in one transaction over ADBC.

Sessions whose rows are other than those in the database are deleted and copied in anew: a reader sees what was before
the commit or what is after it, waits for nothing, and rights that were granted on the tables stay. Only if a version
of this program brings other columns or views are they made anew, without those rights.
"""

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from datetime import date
from typing import Any

from kstock_batch.errors import TargetFailed
from kstock_batch.quoting import quoted_name
from kstock_batch.serving.targets.content import KEYS, VIEWS, Content, portable_view
from kstock_batch.serving.targets.server import URI_VARIABLE, Server

SCHEMA = "kstock"
LOCK_SECONDS = 30
_KINDS = {
    **{"DATE": "date", "TIMESTAMP": "timestamp", "BOOLEAN": "boolean"},
    **{"DOUBLE": "double precision", "FLOAT": "real"},
    **{"SMALLINT": "smallint", "INTEGER": "integer", "BIGINT": "bigint"},
}  # everything else is text
_OF_OURS = {
    "content": "layout text NOT NULL, digest text NOT NULL",
    "session_digest": "as_of date PRIMARY KEY, digest text NOT NULL",
}


def write_postgres(content: Content, server: Server) -> bool:
    """Make the schema hold the content and return whether it did not before."""
    with _connected(server) as con, con.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
        is_ours = _rows(cursor, f"SELECT to_regclass('{SCHEMA}.content') IS NOT NULL") == [(True,)]
        held = _rows(cursor, f"SELECT layout, digest FROM {SCHEMA}.content") if is_ours else []
        if held == [(content.layout, content.digest)]:
            return False
        if is_ours and [layout for layout, _ in held] != [content.layout]:
            _drop(cursor)
            is_ours = False
        if not is_ours:
            _create(cursor, content)
        _replace_sessions(cursor, content)
        _replace_facts(cursor, content)
        _verify(cursor, content, server)
        con.commit()
    return True


@contextmanager
def _connected(server: Server) -> Iterator[Any]:
    """Yield a connection in a transaction, which is rolled back unless the body commits; faults are one sentence."""
    try:
        from adbc_driver_manager import Error
        from adbc_driver_postgresql import dbapi
    except ImportError as error:
        raise TargetFailed(
            "the target postgres needs adbc_driver_postgresql, which is not installed",
            fix="pip install 'kstock-batch[postgres]'",
        ) from error
    try:
        with closing(dbapi.connect(server.uri)) as con:
            yield con
    except Error as error:
        # Not chained: whoever prints a traceback would print the driver's own words with it.
        raise TargetFailed(
            f"the database at {server.place} cannot be written: {server.told(error)}",
            fix=f"see that the server runs, and that the user and password of {URI_VARIABLE} may write its schema"
            f" {SCHEMA}; then run `kstock-batch score` again",
        ) from None


def _rows(cursor: Any, statement: str) -> list[tuple[Any, ...]]:
    cursor.execute(statement)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _kind(kind: str) -> str:
    return _KINDS.get(kind, "text")


def _create(cursor: Any, content: Content) -> None:
    # Asked first: IF NOT EXISTS wants the right to make schemas even where a DBA has made this one.
    if _rows(cursor, f"SELECT to_regnamespace('{SCHEMA}') IS NULL") == [(True,)]:
        cursor.execute(f"CREATE SCHEMA {SCHEMA}")
    for relation, key in KEYS.items():
        columns = [f"{quoted_name(name)} {_kind(kind)}" for name, kind in content.columns[relation].items()]
        primary = f"PRIMARY KEY ({', '.join(map(quoted_name, key))})"
        cursor.execute(f"CREATE TABLE {SCHEMA}.{relation} ({', '.join(columns)}, {primary})")
    for table, columns_of_ours in _OF_OURS.items():
        cursor.execute(f"CREATE TABLE {SCHEMA}.{table} ({columns_of_ours})")
    cursor.execute(f"CREATE INDEX prediction_by_ticker ON {SCHEMA}.prediction (ticker, as_of)")
    cursor.execute(f"SET LOCAL search_path = {SCHEMA}")  # a view is bound to the tables found when it is made
    for view in VIEWS:
        cursor.execute(f"CREATE VIEW {SCHEMA}.{view} AS {portable_view(view)}")


def _drop(cursor: Any) -> None:
    """Drop what we made and nothing else: a view of the user's own upon it makes the server refuse, by name."""
    for view in VIEWS:
        cursor.execute(f"DROP VIEW IF EXISTS {SCHEMA}.{view}")
    for table in (*KEYS, *_OF_OURS):
        cursor.execute(f"DROP TABLE IF EXISTS {SCHEMA}.{table}")


def _replace_sessions(cursor: Any, content: Content) -> None:
    """Make the sessions that differ those of the content."""
    held = dict(_rows(cursor, f"SELECT as_of, digest FROM {SCHEMA}.session_digest"))
    due = sorted(day for day in held.keys() | content.sessions.keys() if held.get(day) != content.sessions.get(day))
    if not due:
        return
    for table in ("prediction", "session_digest"):
        cursor.executemany(f"DELETE FROM {SCHEMA}.{table} WHERE as_of = $1", [(day,) for day in due])
    _copy(cursor, content, "prediction", days=due)
    fresh = [(day, content.sessions[day]) for day in due if day in content.sessions]
    cursor.executemany(f"INSERT INTO {SCHEMA}.session_digest VALUES ($1, $2)", fresh)


def _replace_facts(cursor: Any, content: Content) -> None:
    for relation in KEYS.keys() - {"prediction"}:
        cursor.execute(f"DELETE FROM {SCHEMA}.{relation}")
        _copy(cursor, content, relation)
    cursor.execute(f"DELETE FROM {SCHEMA}.content")
    cursor.executemany(f"INSERT INTO {SCHEMA}.content VALUES ($1, $2)", [(content.layout, content.digest)])


def _copy(cursor: Any, content: Content, relation: str, *, days: Collection[date] | None = None) -> None:
    """Append a relation's rows, or those of some sessions, by COPY."""
    odd = {*content.columns[relation].values()} - _KINDS.keys()
    for piece in content.pieces(relation, as_text=odd, days=days):
        cursor.adbc_ingest(relation, piece.to_arrow_reader(), mode="append", db_schema_name=SCHEMA)


def _verify(cursor: Any, content: Content, server: Server) -> None:
    """Refuse to commit another number of rows than the serving file's."""
    for relation in KEYS:
        wanted, found = content.n_rows(relation), _rows(cursor, f"SELECT count(*) FROM {SCHEMA}.{relation}")[0][0]
        if found != wanted:
            raise TargetFailed(
                f"{SCHEMA}.{relation} at {server.place} would hold {found} rows instead of {wanted}",
                fix=f"drop the schema {SCHEMA} if anything else writes to it, then run `kstock-batch score` again",
            )
