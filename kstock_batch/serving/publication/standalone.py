"""A DuckDB file that stands alone: built through an open connection, and with no write-ahead log left beside it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from kstock_batch.files import log_of
from kstock_batch.quoting import quoted_text

log = logging.getLogger(__name__)

# Readable by DuckDB 1.4 and later: 1.4 is the last that runs on Python 3.9, which the bot may still use.
STORAGE_VERSION = "v1.4.0"
# Nothing is recovered from a file that was not finished: writing all of it to a log first is time lost. 1.4 must.
_UNLOGGED = ", RECOVERY_MODE 'NO_WAL_WRITES'" if not duckdb.__version__.startswith("1.4.") else ""


@contextmanager
def attached(con: duckdb.DuckDBPyConnection, path: Path, name: str) -> Iterator[None]:
    """Attach a new database as ``name`` for the duration of the block."""
    # READ_WRITE is said because a store opened for reading would open the new file for reading too.
    options = f"READ_WRITE, STORAGE_VERSION '{STORAGE_VERSION}'{_UNLOGGED}"
    con.execute(f"ATTACH {quoted_text(path)} AS {name} ({options})")
    try:
        yield
    finally:
        con.execute(f"DETACH {name}")


def remove(temp: Path) -> None:
    """Remove an unfinished file and its log."""
    temp.unlink(missing_ok=True)
    log_of(temp).unlink(missing_ok=True)


def drop_foreign_log(target: Path) -> None:
    """Remove a log beside ``target``: it belongs to the file being replaced and would make the new one unopenable.

    What we hand out is only ever opened read-only, so it can hold nothing of ours: someone opened the file to write.
    """
    if (stale := log_of(target)).exists():
        log.warning("removed %s: another program had opened the file beside it for writing", stale)
        stale.unlink(missing_ok=True)
