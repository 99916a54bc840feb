"""Backups: a copy of the store from before its schema changed, beside it, and the way back to one.

A store that this process has open must not be copied (DuckDB's lock would vanish with the second descriptor), so
whoever copies holds the writer's lock and has closed the database, its log written into the file.
"""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from kstock_batch.errors import DiskFull, StoreIncompatible
from kstock_batch.files import fsync, link_or_copy, log_of, written_beside
from kstock_batch.quoting import quoted_name
from kstock_batch.store.faults import folder_faults_are_named
from kstock_batch.store.lock import release_lock, take_lock
from kstock_batch.store.migrations import newest_version, stored_version

KEPT = 2
_NAME = re.compile(r"store-v\d+-\d{8}T\d{12}Z\.duckdb")


def backups_folder(store: Path) -> Path:
    """Return where the backups of ``store`` lie."""
    return store.parent / "backups"


def kept_backups(store: Path) -> list[Path]:
    """Return the backups of ``store``, newest first."""
    found = (path for path in backups_folder(store).glob("store-v*.duckdb") if _NAME.fullmatch(path.name))
    return sorted(found, key=lambda path: path.name.rpartition("-")[2], reverse=True)


def room_for_backup(store: Path) -> tuple[int, int]:
    """Return the bytes that a backup of ``store`` needs, and those that its disk has free."""
    return store.stat().st_size, shutil.disk_usage(store.parent).free


def back_up(store: Path, version: int) -> Path:
    """Copy the closed ``store`` of schema ``version``, read the copy whole, and keep the newest ``KEPT`` of them.

    Raises
    ------
    DiskFull : the disk has no room for a copy; nothing was changed
    StoreIncompatible : the copy cannot be written, or does not read back
    """
    needed, free = room_for_backup(store)
    if needed > free:
        raise DiskFull(
            f"a backup of {store} before its upgrade needs {needed:,} bytes, {free:,} are free",
            fix="free some room, or run `kstock-batch upgrade --no-backup`, after which there is no way back",
        )
    target = backups_folder(store) / f"store-v{version}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z.duckdb"
    fix = "the store or its disk is damaged: `kstock-batch upgrade --restore FILE` brings an older copy back"
    with folder_faults_are_named(target):
        with written_beside(target) as temp:
            shutil.copyfile(store, temp)
            _require_store(temp, named=f"the copy of {store} that was just made", fix=fix)
        for old in kept_backups(store)[KEPT:]:
            old.unlink()
    return target


def restore(store: Path, backup: Path) -> Path | None:
    """Put ``backup`` in the place of ``store`` and return where the replaced one is kept; None = there was none.

    The backup stays. A kill leaves the old store or the restored one; a log of the old one beside the restored one,
    which a kill may leave, is refused by every command and cleared by the same restore run again.
    """
    if not backup.is_file():
        raise StoreIncompatible(f"there is no file {backup}", fix=f"name one of {backups_folder(store)}")
    _require_store(backup, named=str(backup), fix="name another backup")
    with folder_faults_are_named(store):
        store.parent.mkdir(parents=True, exist_ok=True)
        lock = take_lock(store.with_suffix(".lock"))
        try:
            replaced = _keep_aside(store)
            with written_beside(store) as temp:
                shutil.copyfile(backup, temp)
            log_of(store).unlink(missing_ok=True)
            fsync(store.parent)
            return replaced
        finally:
            release_lock(lock, is_writer=True)


def _keep_aside(store: Path) -> Path | None:
    """Give the store, and its log if there is one, a second name: that costs no room until the first is another's."""
    if not store.exists():
        return None
    aside = backups_folder(store) / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z.duckdb"
    aside.parent.mkdir(exist_ok=True)
    link_or_copy(store, aside)
    if log_of(store).exists():
        link_or_copy(log_of(store), log_of(aside))
    return aside


def _require_store(path: Path, *, named: str, fix: str) -> None:
    """Raise, with ``fix``, unless the file is a whole store that this program can bring forward."""
    try:
        with duckdb.connect(str(path), read_only=True) as con:
            version = stored_version(con, path)
            for (table,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                # A count is answered from the catalogue alone; only a hash reads each block, whose checksum is tested.
                con.execute(f"SELECT max(hash(t)) FROM {quoted_name(table)} AS t").fetchall()
    except duckdb.Error as error:
        told = str(error).splitlines()[0]
        raise StoreIncompatible(f"{named} cannot be read: {told}", fix=fix) from error
    if not 0 < version <= newest_version():
        raise StoreIncompatible(
            f"{named} has schema version {version}, this program knows 1 to {newest_version()}",
            fix=f"{fix}, or use the program that made it",
        )
