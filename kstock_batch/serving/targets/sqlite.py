"""The SQLite target: one file for readers that have Python's own library and no DuckDB.

Rows lie in the order of (as_of, ticker), without a second tree of row numbers, so that one ticker of the newest
session is two descents of one tree. Dates and instants are ISO texts, as SQLite's own functions read them. The file is
built beside the target, read back, and renamed; a connection that was open keeps the old file until it is closed.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from kstock_batch.errors import TargetFailed
from kstock_batch.files import rename_into_place
from kstock_batch.quoting import quoted_name
from kstock_batch.serving.targets.content import KEYS, VIEWS, Content, portable_view
from kstock_batch.serving.targets.failures import FIX, failures_named, require_all, require_no_folder

CACHE_KB = 64_000
_KINDS = {
    **dict.fromkeys(("DOUBLE", "FLOAT"), "REAL"),
    **dict.fromkeys(("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT"), "INTEGER"),
}  # everything else is text


def write_sqlite(content: Content, path: Path) -> bool:
    """Make the file hold the content and return whether it did not before."""
    if _digest_in(path) == content.digest:
        return False
    temp = path.with_name(f".{path.name}.building")
    with failures_named(path):
        require_no_folder(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temp)  # what a killed run left
        try:
            with closing(sqlite3.connect(temp, isolation_level=None)) as con:
                _build(con, content)
            _verify(content, temp)
            temp.chmod(0o644)  # whatever the umask: the reader may run as another user
            _remove_logs(path)
            rename_into_place(temp, path)
        except BaseException:
            _remove(temp)
            raise
    return True


def _digest_in(path: Path) -> str | None:
    """Return the digest of the content that the file was built from; None = it must be built anew."""
    try:
        with closing(_opened(path)) as con:
            return str(con.execute("SELECT digest FROM content").fetchall()[0][0])
    except (sqlite3.Error, IndexError):
        return None


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)


def _build(con: sqlite3.Connection, content: Content) -> None:
    # Nobody sees the file before it is whole, and the rename waits for the disk: no log is needed on the way.
    con.execute("PRAGMA journal_mode = OFF")
    con.execute("PRAGMA synchronous = OFF")
    con.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    con.execute("BEGIN")
    for relation in KEYS:
        _create(con, content, relation)
        _fill(con, content, relation)
    # Built last, in one sort: a ticker's history would otherwise read every session.
    con.execute("CREATE INDEX prediction_by_ticker ON prediction (ticker, as_of)")
    for view in VIEWS:
        con.execute(f"CREATE VIEW {view} AS {portable_view(view)}")
    con.execute("CREATE TABLE content (digest TEXT NOT NULL)")
    con.execute("INSERT INTO content VALUES (?)", (content.digest,))
    con.execute("COMMIT")


def _create(con: sqlite3.Connection, content: Content, relation: str) -> None:
    columns = [f"{quoted_name(name)} {_KINDS.get(kind, 'TEXT')}" for name, kind in content.columns[relation].items()]
    key = ", ".join(map(quoted_name, KEYS[relation]))
    con.execute(f"CREATE TABLE {relation} ({', '.join(columns)}, PRIMARY KEY ({key})) WITHOUT ROWID")


def _fill(con: sqlite3.Connection, content: Content, relation: str) -> None:
    columns = content.columns[relation]
    insert = f"INSERT INTO {relation} VALUES ({', '.join('?' * len(columns))})"
    for piece in content.pieces(relation, as_text={*columns.values()} - _KINDS.keys()):
        con.executemany(insert, piece.fetchall())


def _verify(content: Content, temp: Path) -> None:
    """Read the file as a reader would."""
    with closing(_opened(temp)) as con:
        told = con.execute("PRAGMA quick_check(1)").fetchall()
        if told != [("ok",)]:
            raise TargetFailed(f"the new {temp} is damaged: {told[0][0]}", fix=FIX.format(temp.parent))
        found = {relation: con.execute(f"SELECT count(*) FROM {relation}").fetchall()[0][0] for relation in KEYS}
    require_all(temp, {relation: content.n_rows(relation) for relation in KEYS}, found)


def _remove(temp: Path) -> None:
    temp.unlink(missing_ok=True)
    _remove_logs(temp)


def _remove_logs(path: Path) -> None:
    """Remove logs beside ``path``: they belong to another file and would be played into the new one."""
    for ending in ("-journal", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)
