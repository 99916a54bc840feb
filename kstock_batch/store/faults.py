"""What DuckDB and the operating system say of a store in trouble, as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from kstock_batch.errors import KStockError, StoreIncompatible
from kstock_batch.files import disk_full, disk_full_is_named, says_disk_full


def is_disk_full(error: duckdb.Error) -> bool:
    """Return whether DuckDB failed for want of disk space."""
    return says_disk_full(error) or "max_temp_directory_size" in str(error)


@contextmanager
def store_faults_are_named(path: Path) -> Iterator[None]:
    """Translate what DuckDB says of a full disk or a damaged file into one sentence."""
    try:
        yield
    except duckdb.Error as error:
        if named := named_fault(error, path):
            raise named from error
        raise


def named_fault(error: BaseException | None, path: Path) -> KStockError | None:
    """Return what DuckDB said as an error of ours, or None if it is none we know."""
    if not isinstance(error, duckdb.Error):
        return None
    if is_disk_full(error):
        return disk_full(path)
    if isinstance(error, duckdb.OutOfMemoryException):
        fix = "raise memory_limit in kstock.toml, or let fewer programs run beside it"
        return KStockError(f"{path} needs more memory than allowed: {str(error).splitlines()[0]}", fix=fix)
    if "corrupt database file" in str(error).lower():
        return damaged(path, error)
    return None


def damaged(path: Path, error: duckdb.Error) -> StoreIncompatible:
    """Return the error for a store that DuckDB cannot read."""
    told = str(error).splitlines()[0].removesuffix(".")
    fix = "restore it from a copy, or ingest into a new folder with --root"
    if "WAL" in told:  # the store itself may be whole: one was put back beside the log of another
        fix = (
            f"if {path.name} was restored from a copy, move {path.name}.wal away, which belongs to another; else {fix}"
        )
    return StoreIncompatible(f"{path} cannot be read: {told}", fix=fix)


@contextmanager
def folder_faults_are_named(path: Path) -> Iterator[None]:
    """Translate what the operating system says of the store's folder into one sentence."""
    try:
        with disk_full_is_named(path):
            yield
    except OSError as error:
        raise StoreIncompatible(
            f"{path} cannot be written: {error}", fix="make its folder writable for this user, or use another --root"
        ) from error
