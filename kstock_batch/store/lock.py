"""The writer's lock: a file of our own beside the store, held with flock, that says who holds it.

DuckDB's own lock is a per-process POSIX lock that vanishes when this process opens and closes the file a second
time. This one goes with its process, whatever ends it. A link in its place is not followed: what is emptied and written
to must be a file of this folder.
"""

import fcntl
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from kstock_batch.errors import WarehouseLocked

_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0)  # seconds: a `status` or an `audit` reads no longer


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


def share_lock(path: Path) -> int:
    """Keep writers waiting while the store is read: DuckDB would turn them away at once."""
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(fd)
        os.close(fd)
        fix = "wait for it to finish, then ask again"
        raise WarehouseLocked(f"{path.with_suffix('.duckdb')} is being written by {holder}", fix=fix) from error
    return fd


def take_lock(path: Path) -> int:
    """Keep every other writer out until the returned descriptor is released."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        _lock_patiently(fd, path)
        os.ftruncate(fd, 0)
        since = datetime.now(UTC).isoformat(timespec="seconds")
        os.pwrite(fd, json.dumps({"pid": os.getpid(), "since": since}).encode(), 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def release_lock(fd: int, *, is_writer: bool) -> None:
    """Let the next one in; a writer's name goes with it."""
    if is_writer:
        os.ftruncate(fd, 0)
    os.close(fd)


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
