"""The private store: one writer, migrations forward only, every write a transaction.

DuckDB's own lock is a per-process POSIX lock that vanishes when this process opens and closes the file a second
time, so ``store.lock`` (flock) is what keeps a second writer out, and nothing here copies or hashes an open store.
"""

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType

import duckdb
import polars as pl

from kstock_batch.errors import DataNotReady, KStockError, StoreIncompatible, WarehouseLocked
from kstock_batch.files import disk_full, disk_full_is_named, says_disk_full
from kstock_batch.settings import Settings
from kstock_batch.store.queries import sql_folder

_IN_USE = re.compile(r"Conflicting lock is held in .*\(PID (\d+)\)")
_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0)  # seconds: a `status` or an `audit` reads no longer


class Warehouse:
    """An open store; use it as a context manager."""

    def __init__(self, con: duckdb.DuckDBPyConnection, path: Path, lock: int, *, is_writer: bool = True) -> None:
        self.con = con
        self.path = path
        self._lock = lock
        self._is_writer = is_writer

    @classmethod
    def open(cls, settings: Settings) -> "Warehouse":
        """Open the store for writing, create or migrate it, and keep every other writer out until closed."""
        path = settings.store
        with _folder_faults_are_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = _take_lock(path.with_suffix(".lock"))
        try:
            con = _connect(path, settings, read_only=False)
            try:
                with store_faults_are_named(path):
                    _migrate(con, path)
            except BaseException:
                con.close()
                raise
        except BaseException:
            os.close(lock)
            raise
        return cls(con, path, lock)

    @classmethod
    def read(cls, settings: Settings) -> "Warehouse":
        """Open the store for reading; a running writer is named rather than waited for."""
        path = settings.store
        if not path.exists():
            raise DataNotReady(
                f"there is no store at {path}", fix="run `kstock-batch demo` or `kstock-batch ingest files DIR`"
            )
        lock = _share_lock(path)
        try:
            con = _connect(path, settings, read_only=True)
            try:
                _require_newest_schema(con, path)
            except BaseException:
                con.close()
                raise
        except BaseException:
            os.close(lock)
            raise
        return cls(con, path, lock, is_writer=False)

    def __enter__(self) -> "Warehouse":
        """Return self."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the store, then let the next writer in; a fault of the store itself leaves as one sentence."""
        self.con.close()
        if self._is_writer:
            os.ftruncate(self._lock, 0)
        os.close(self._lock)
        if named := _named_fault(error, self.path):
            raise named from error

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Commit everything written inside, or nothing."""
        with store_faults_are_named(self.path):
            self.con.execute("BEGIN TRANSACTION")
            try:
                yield self.con
                self.con.execute("COMMIT")
            except BaseException:
                # A failed COMMIT has already rolled back, and after a full disk DuckDB takes no more statements.
                with suppress(duckdb.Error):
                    self.con.execute("ROLLBACK")
                raise

    def replace_partition(self, table: str, as_of: date, rows: pl.DataFrame) -> int:
        """Make ``table`` hold exactly ``rows`` for ``as_of``, in a transaction of its own."""
        with self.transaction() as con:
            return replace_rows(con, table, rows, start=as_of, end=as_of)


def replace_rows(con: duckdb.DuckDBPyConnection, table: str, rows: pl.DataFrame, *, start: date, end: date) -> int:
    """Make ``table`` hold exactly ``rows`` for as_of in [start, end]: run it twice, get the same table.

    Within a transaction of the caller's, which may have more to say in it.
    """
    if wrong := rows.filter(~pl.col("as_of").is_between(start, end)).height:
        raise ValueError(f"{wrong} of {rows.height} rows are outside {start} … {end}")
    con.execute(f"DELETE FROM {table} WHERE as_of BETWEEN $start AND $end", {"start": start, "end": end})
    insert_rows(con, table, rows, order="as_of, ticker")
    return rows.height


def insert_rows(con: duckdb.DuckDBPyConnection, table: str, rows: pl.DataFrame, *, order: str) -> None:
    """Append ``rows`` to ``table`` by column name, sorted for the access the table serves."""
    con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM rows ORDER BY {order}")  # DuckDB finds `rows` by its name


def lock_holder(path: Path) -> str | None:
    """Return who holds the writer's lock (PID, since when), or None."""
    if not path.exists():
        return None
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(fd)
    finally:
        os.close(fd)
    return None


def _share_lock(store: Path) -> int:
    """Keep writers waiting while the store is read: DuckDB would turn them away at once."""
    fd = os.open(store.with_suffix(".lock"), os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(fd)
        os.close(fd)
        raise WarehouseLocked(
            f"{store} is being written by {holder}", fix="wait for it to finish, then ask again"
        ) from error
    return fd


def _take_lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock_patiently(fd, path)
        os.ftruncate(fd, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _lock_patiently(fd: int, path: Path) -> None:
    """Take the lock; one that is let go within seconds is a reader's, and must not cost a night."""
    for pause in (*_PAUSES, None):
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if pause is None:
                raise WarehouseLocked(
                    f"{path.with_suffix('.duckdb')} is being written by {_holder(fd)}",
                    fix="wait for it to finish; the lock goes with its process, so nothing needs to be deleted",
                ) from error
            time.sleep(pause)


def _holder(fd: int) -> str:
    try:
        facts = json.loads(os.pread(fd, 4096, 0))
        return f"PID {facts['pid']} since {facts['since']}"
    except (ValueError, KeyError):
        return "another process that has just started, or only reads"


def _connect(path: Path, settings: Settings, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": settings.threads,
        "temp_directory": str(settings.warehouse / "tmp"),
    }
    if settings.memory_limit:
        config["memory_limit"] = settings.memory_limit
    try:
        con = duckdb.connect(str(path), read_only=read_only, config=config)
        con.execute("SET TimeZone = 'UTC'")  # not in the config: icu is loaded only once the database is open
        return con
    except duckdb.Error as error:
        if is_disk_full(error):
            raise disk_full(path) from error
        if other := _IN_USE.search(str(error)):
            raise WarehouseLocked(
                f"{path} is open in another program, PID {other[1]}", fix="wait for it to finish, or close it"
            ) from error
        raise _damaged(path, error) from error


def _migrations() -> list[Path]:
    return sorted((sql_folder() / "schema").glob("[0-9][0-9][0-9][0-9]_*.sql"))


def _version(con: duckdb.DuckDBPyConnection, path: Path) -> int:
    tables = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "schema_version" not in tables:
        if tables:
            raise StoreIncompatible(
                f"{path} holds {sorted(tables)[:5]}: it is no store of ours", fix="use another --root"
            )
        return 0
    return int(con.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()[0][0])


def _migrate(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring the store to the newest schema, one transaction a step."""
    version, steps = _version(con, path), _migrations()
    if version > len(steps):
        raise _too_new(path, version, len(steps))
    for number, step in enumerate(steps[version:], start=version + 1):
        con.execute("BEGIN TRANSACTION")
        con.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER, name VARCHAR)")
        con.execute(step.read_text(encoding="utf-8"))
        con.execute("INSERT INTO schema_version VALUES ($n, $name)", {"n": number, "name": step.stem})
        con.execute("COMMIT")


def _require_newest_schema(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    version, newest = _version(con, path), len(_migrations())
    if version > newest:
        raise _too_new(path, version, newest)
    if version < newest:
        raise StoreIncompatible(
            f"{path} has schema version {version}, this program reads {newest}",
            fix="run any writing command (`kstock-batch features`) once: it migrates the store forward",
        )


def _too_new(path: Path, version: int, newest: int) -> StoreIncompatible:
    return StoreIncompatible(
        f"{path} has schema version {version}, this program knows up to {newest}",
        fix="upgrade kstock-batch, or point --root at another folder",
    )


def is_disk_full(error: duckdb.Error) -> bool:
    """Return whether DuckDB failed for want of disk space."""
    return says_disk_full(error) or "max_temp_directory_size" in str(error)


@contextmanager
def store_faults_are_named(path: Path) -> Iterator[None]:
    """Translate what DuckDB says of a full disk or a damaged file into one sentence."""
    try:
        yield
    except duckdb.Error as error:
        if named := _named_fault(error, path):
            raise named from error
        raise


def _named_fault(error: BaseException | None, path: Path) -> KStockError | None:
    if not isinstance(error, duckdb.Error):
        return None
    if is_disk_full(error):
        return disk_full(path)
    if "corrupt database file" in str(error).lower():
        return _damaged(path, error)
    return None


def _damaged(path: Path, error: duckdb.Error) -> StoreIncompatible:
    return StoreIncompatible(
        f"{path} cannot be read: {str(error).splitlines()[0].removesuffix('.')}",
        fix="restore it from a copy, or ingest into a new folder with --root",
    )


@contextmanager
def _folder_faults_are_named(path: Path) -> Iterator[None]:
    try:
        with disk_full_is_named(path):
            yield
    except OSError as error:
        raise StoreIncompatible(
            f"{path} cannot be written: {error}", fix="make its folder writable for this user, or use another --root"
        ) from error
