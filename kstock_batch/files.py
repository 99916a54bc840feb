"""Files that are written whole or not at all, and their digests.

Python 3.9 syntax and no library, because the bot imports this module when it saves its LSTM.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kstock_batch.errors import DiskFull

_UNFINISHED: set[Path] = set()  # what this process is writing


@contextmanager
def disk_full_is_named(path: Path) -> Iterator[None]:
    """Translate "no space left on device" into one sentence that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise disk_full(path) from error
    except _polars_error() as error:  # its parquet writer wraps the system's error in its own
        if not says_disk_full(error):
            raise
        raise disk_full(path) from error


def _polars_error() -> type[Exception] | tuple[()]:
    """Return the base of polars' errors; nothing where polars was never imported, as in the bot: it raised none."""
    polars = sys.modules.get("polars")
    return () if polars is None else polars.exceptions.PolarsError


def says_disk_full(error: Exception) -> bool:
    """Return whether a library's error is the system's of a full disk or quota, by its text."""
    return any(sign in str(error).lower() for sign in ("no space left", "disk quota exceeded"))


def disk_full(path: Path) -> DiskFull:
    """Return the error for a full disk at ``path``."""
    return DiskFull(f"no space left on the disk of {path}", fix="free some room there, then run the same command again")


def fsync(path: Path) -> None:
    """Make the bytes of a file, or the names in a folder, survive a power cut."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rename_into_place(temp: Path, path: Path) -> None:
    """Replace ``path`` by the finished file ``temp``: a reader sees the old bytes or the new, never half."""
    with disk_full_is_named(path):
        fsync(temp)
        os.replace(temp, path)
        fsync(path.parent)


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a file beside ``path`` for the body to write; rename it into place, or remove it if anything fails."""
    with disk_full_is_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(fd)
        temp = Path(name)
        _UNFINISHED.add(temp)
        try:
            yield temp
            temp.chmod(0o644)  # mkstemp makes 0600: the bot may run as another user
            rename_into_place(temp, path)
        except BaseException:
            temp.unlink(missing_ok=True)
            raise
        finally:
            _UNFINISHED.discard(temp)


def remove_unfinished() -> None:
    """Remove what ``written_beside`` would have, for a process that ends without unwinding."""
    for temp in list(_UNFINISHED):
        temp.unlink(missing_ok=True)


def link_or_copy(source: Path, new: Path) -> None:
    """Give a file a second name, or where the file system has no hard links, make a copy under it."""
    try:
        os.link(source, new)
        fsync(new.parent)
    except FileExistsError:
        raise
    except OSError:
        with written_beside(new) as temp:
            shutil.copyfile(source, temp)


def log_of(database: Path) -> Path:
    """Return where DuckDB keeps the write-ahead log of a database."""
    return database.with_name(f"{database.name}.wal")


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` beside ``path``, then rename it into place."""
    with written_beside(path) as temp:
        temp.write_bytes(data)


def sha256(path: Path) -> str:
    """Return the hex SHA-256 digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
