"""The private store: one writer, every write a transaction; nothing here copies or hashes a store that is open."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from types import TracebackType

import duckdb
import polars as pl

from kstock_batch.errors import DataNotReady, WarehouseLocked
from kstock_batch.files import disk_full
from kstock_batch.settings import Settings
from kstock_batch.store.backups import back_up
from kstock_batch.store.catalogue import install_catalogue
from kstock_batch.store.faults import (
    damaged,
    folder_faults_are_named,
    is_disk_full,
    named_fault,
    store_faults_are_named,
)
from kstock_batch.store.lock import release_lock, share_lock, take_lock
from kstock_batch.store.migrations import migrate, newest_version, require_newest_schema, stored_version

log = logging.getLogger(__name__)

MAX_TEMP_SIZE = "20GB"  # a join gone wrong must not fill the disk the store lives on
_IN_USE = re.compile(r"Conflicting lock is held in .*\(PID (\d+)\)")


class Warehouse:
    """An open store; use it as a context manager."""

    def __init__(self, con: duckdb.DuckDBPyConnection, path: Path, lock: int, *, is_writer: bool) -> None:
        self.con = con
        self.path = path
        self._lock = lock
        self._is_writer = is_writer

    @classmethod
    def open(cls, settings: Settings, *, backup: bool = True) -> "Warehouse":
        """Open the store for writing, create or migrate it, and keep every other writer out until closed.

        Before an older store is migrated it is copied, unless the caller wants no ``backup``.
        """
        path = settings.store
        with folder_faults_are_named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = take_lock(path.with_suffix(".lock"))
        return cls._opened(settings, lock, _make_newest, is_writer=True, backup=backup)

    @classmethod
    def read(cls, settings: Settings) -> "Warehouse":
        """Open the store for reading; a running writer is named rather than waited for."""
        return cls._opened_to_read(settings, require_newest_schema)

    @classmethod
    def version(cls, settings: Settings) -> int:
        """Return the store's schema version, whichever it is."""
        with cls._opened_to_read(settings, lambda con, path: None) as warehouse:
            return stored_version(warehouse.con, warehouse.path)

    @classmethod
    def _opened_to_read(
        cls, settings: Settings, prepare: Callable[[duckdb.DuckDBPyConnection, Path], object]
    ) -> "Warehouse":
        path = settings.store
        if not path.exists():
            raise DataNotReady(
                f"there is no store at {path}", fix="run `kstock-batch demo` or `kstock-batch ingest files DIR`"
            )
        with folder_faults_are_named(path):
            lock = share_lock(path.with_suffix(".lock"))
        return cls._opened(settings, lock, prepare, is_writer=False)

    @classmethod
    def _opened(
        cls,
        settings: Settings,
        lock: int,
        prepare: Callable[[duckdb.DuckDBPyConnection, Path], object],
        *,
        is_writer: bool,
        backup: bool = False,
    ) -> "Warehouse":
        """Connect and ``prepare``; whatever fails, connection and lock are let go."""
        path = settings.store
        try:
            con = _connect(path, settings, read_only=not is_writer)
            try:
                with store_faults_are_named(path):
                    if backup and 0 < (version := stored_version(con, path)) < newest_version():
                        con.execute("CHECKPOINT")
                        con.close()  # a store that is open must not be copied
                        log.warning("upgrading the store; a copy from before is %s", back_up(path, version))
                        con = _connect(path, settings, read_only=False)
                    prepare(con, path)
            except BaseException:
                con.close()
                raise
        except BaseException:
            release_lock(lock, is_writer=is_writer)
            raise
        return cls(con, path, lock, is_writer=is_writer)

    def __enter__(self) -> "Warehouse":
        """Return self."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the store, then let the next writer in; a fault of the store itself leaves as one sentence."""
        self.con.close()
        release_lock(self._lock, is_writer=self._is_writer)
        if named := named_fault(error, self.path):
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


def replace_rows(con: duckdb.DuckDBPyConnection, table: str, rows: pl.DataFrame, *, start: date, end: date) -> int:
    """Make ``table`` hold exactly ``rows`` for as_of in [start, end]: run it twice, get the same table.

    Within a transaction of the caller's, which may have more to say in it.
    """
    if wrong := rows.filter(~pl.col("as_of").is_between(start, end)).height:
        raise ValueError(f"{wrong} of {rows.height} rows are outside {start} … {end}")
    con.execute(f"DELETE FROM {table} WHERE as_of BETWEEN $start AND $end", {"start": start, "end": end})
    insert_rows(con, table, rows, order="as_of, ticker")
    return rows.height


def insert_rows(con: duckdb.DuckDBPyConnection, table: str, rows: pl.DataFrame, *, order: str | None) -> None:
    """Append ``rows`` to ``table`` by column name, sorted for the access the table serves; None = as they are."""
    sort = f" ORDER BY {order}" if order else ""
    con.execute(f"INSERT INTO {table} BY NAME SELECT * FROM rows{sort}")  # DuckDB finds `rows` by its name


def _make_newest(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    migrate(con, path)
    install_catalogue(con)


def _connect(path: Path, settings: Settings, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": settings.threads,
        "temp_directory": str(settings.warehouse / "tmp"),
        "max_temp_directory_size": MAX_TEMP_SIZE,
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
        raise damaged(path, error) from error
