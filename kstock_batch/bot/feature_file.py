"""The bot's own DuckDB file: opened for one call or one ``with`` block, one call at a time, whole or not at all.

DuckDB lets one process in at a time, so a file held open for weeks would lock a notebook out, and an open notebook
the bot. Opening costs a few milliseconds; a call that meets another process waits for it.

Standard library, duckdb (1.4 or later) and Python 3.9 syntax only.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import duckdb

from kstock_batch.errors import ConfigError, DiskFull, KStockError, StoreIncompatible, WarehouseLocked

COLUMNS = {
    "date": "DATE",
    "ticker": "VARCHAR",
    "name": "VARCHAR",
    "value": "DOUBLE",
    "category": "VARCHAR",
    "source": "VARCHAR",
}
# Readable by every DuckDB that the bot or a notebook may have, whichever made it. One thread: the bot needs its cores.
_CONFIG: dict[str, Any] = {"threads": 1, "storage_compatibility_version": "v1.4.0"}
_TABLES = "SELECT table_name FROM duckdb_tables() WHERE database_name = current_database() ORDER BY table_name"
# No primary key: on 5 million rows it makes the file seven times larger and the load twice as long. `replace_rows`
# deletes the keys it inserts, and the lock of the process and of the path keep a second writer from doing it between.
_CREATE = f"CREATE TABLE feature ({', '.join(f'{name} {kind} NOT NULL' for name, kind in COLUMNS.items())})"
# Each column comes as one JSON text: without numpy, DuckDB 1.4 takes 0.15 ms for each element of a list parameter.
_VALUES = {
    name: f"from_json(${name}, '[\"{'DOUBLE' if kind == 'DOUBLE' else 'VARCHAR'}\"]')" for name, kind in COLUMNS.items()
}
_GIVEN = f"""
    CREATE OR REPLACE TEMP TABLE given AS
    SELECT {", ".join(f"CAST(unnest({_VALUES[name]}) AS {kind}) AS {name}" for name, kind in COLUMNS.items())}
"""
_DELETE = """
    DELETE FROM feature USING given
    WHERE feature.date BETWEEN $oldest AND $newest AND feature.date = given.date
      AND feature.ticker = given.ticker AND feature.name = given.name
"""
_INSERT = f"INSERT INTO feature SELECT {', '.join(COLUMNS)} FROM given ORDER BY date, name, ticker"

_PAUSE = 0.02
_IN_USE = re.compile(r"Could not set lock on file|being used by another process")
_PID = re.compile(r"\(PID (\d+)\)")
_UNWRITABLE = re.compile(r"Permission denied|Read-only file system|No such file|Not a directory|Is a directory")
# The files the job owns, by name: opening the first would stop the night, writing into the second would spoil it.
_OF_THE_JOB = {"store.duckdb": "private store", "predictions.duckdb": "published file"}
# Two objects on one path in one process share a database, which DuckDB's own lock does not part.
_LOCKS: dict[Path, threading.Lock] = {}


class FeatureFile:
    """The rows at ``path``, which is made if it is absent; calls from all threads come one after the other."""

    def __init__(self, path: Path, wait_seconds: float) -> None:
        self.path = path.resolve()
        if owner := _OF_THE_JOB.get(self.path.name.lower()):
            raise ConfigError(
                f"{path} is the nightly job's {owner}", fix="give the feature store a file of its own: features.duckdb"
            )
        self._wait_seconds = wait_seconds
        self._lock = _LOCKS.setdefault(self.path, threading.Lock())
        self._con: duckdb.DuckDBPyConnection | None = None
        self._n_holders = 0

    def hold(self) -> None:
        """Keep the file open from now on, until as many calls of ``release``."""
        with self._opened():
            self._n_holders += 1

    def release(self) -> None:
        """Undo one ``hold``."""
        with self._lock:
            self._n_holders -= 1
            if self._n_holders == 0:
                self._let_go()

    def close(self) -> None:
        """Let other processes in; the next call opens the file again."""
        with self._lock:
            self._let_go()

    def rows(self, statement: str, **params: Any) -> list[tuple[Any, ...]]:
        """Return a statement's rows."""
        with self._opened() as con:
            return con.execute(statement, params).fetchall()

    def replace_rows(self, columns: dict[str, list[Any]]) -> None:
        """Store rows, given column by column and with distinct keys, in place of those with the same keys."""
        with self._opened() as con, _transaction(con):
            con.execute(_GIVEN, {name: json.dumps(values, default=str) for name, values in columns.items()})
            con.execute(_DELETE, {"oldest": min(columns["date"]), "newest": max(columns["date"])})
            con.execute(_INSERT)

    @contextmanager
    def _opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give the connection to one call; every fault leaves as one sentence."""
        with self._lock:
            try:
                self._con = self._con or self._connect()
                yield self._con
            except (duckdb.Error, OSError) as error:
                self._let_go()  # some errors disable the whole instance: begin anew next time
                raise _named(error, self.path) from error
            finally:
                if self._n_holders == 0:
                    self._let_go()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        """Open the file, waiting for another process to let it go, and make sure that it is one of ours."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        give_up_at = monotonic() + self._wait_seconds
        while True:
            try:
                con = duckdb.connect(str(self.path), config=_CONFIG)
                break
            except duckdb.IOException as error:
                if not _IN_USE.search(str(error)) or monotonic() >= give_up_at:
                    raise
            sleep(_PAUSE)
        try:
            _prepare(con, self.path)
        except BaseException:
            con.close()
            raise
        return con

    def _let_go(self) -> None:
        if self._con is not None:
            self._con.close()
        self._con = None


def _prepare(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Create the table in an empty file; refuse a file that someone else made for something else."""
    # Asked of the table, not of the catalogue: a catalogue view costs more than opening the file does.
    with suppress(duckdb.CatalogException):
        if {row[0]: row[1] for row in con.execute("DESCRIBE feature").fetchall()} == COLUMNS:
            return
    if tables := [name for (name,) in con.execute(_TABLES).fetchall()]:
        raise StoreIncompatible(
            f"{path} is another database, not a feature store: it holds {', '.join(tables[:5])}",
            fix="give the path of a new file",
        )
    con.execute(_CREATE)


@contextmanager
def _transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit everything written inside, or nothing."""
    con.execute("BEGIN TRANSACTION")
    try:
        yield
        con.execute("COMMIT")
    except BaseException:
        # A failed COMMIT has already rolled back, and after a full disk DuckDB takes no more statements.
        with suppress(duckdb.Error):
            con.execute("ROLLBACK")
        raise


def _named(error: BaseException, path: Path) -> KStockError:
    """Return what DuckDB or the system said as one sentence."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    if _IN_USE.search(said):
        pid = _PID.search(str(error))
        who = f"another program, PID {pid[1]}" if pid else "another program"
        return WarehouseLocked(f"{path} is open in {who}", fix="close it there, or ask again when it has finished")
    if "different configuration" in said:
        return WarehouseLocked(
            f"{path} is open in this program by other means than FeatureStore",
            fix="close that connection, or let everything go through one FeatureStore",
        )
    if "no space left" in said.lower() or "disk quota exceeded" in said.lower():
        return DiskFull(f"no space left on the disk of {path}", fix="free some room there, then make the call again")
    if isinstance(error, OSError) or _UNWRITABLE.search(said):
        fix = "make its folder writable for this user, or give another path"
        return StoreIncompatible(f"{path} cannot be written: {said}", fix=fix)
    fix = "move it away: a new one is begun, and the published features are not affected"
    return StoreIncompatible(f"{path} cannot be used: {said}", fix=fix)
