"""What goes wrong in writing a file or folder as a target, said in one sentence."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from kstock_batch.errors import TargetFailed
from kstock_batch.files import disk_full, says_disk_full

FIX = "make sure that this user may write {}, then run `kstock-batch score` again"


@contextmanager
def failures_named(place: Path) -> Iterator[None]:
    """Translate what the system, DuckDB or SQLite says of ``place``."""
    try:
        yield
    except (OSError, duckdb.Error, sqlite3.Error) as error:
        if says_disk_full(error) or "disk is full" in str(error):  # the latter is how SQLite says it
            raise disk_full(place) from error
        raise TargetFailed(
            f"{place} cannot be written: {str(error).splitlines()[0]}", fix=FIX.format(place.parent)
        ) from error


def require_no_folder(place: Path) -> None:
    """Refuse a folder where the target is a file or a link: it is none of ours, so not ours to delete."""
    if place.is_dir() and not place.is_symlink():
        raise TargetFailed(
            f"{place} is a folder, where none must be", fix="move it away, then run `kstock-batch score` again"
        )


def require_all(place: Path, wanted: dict[str, int], found: dict[str, int]) -> None:
    """Refuse a copy that holds another number of rows than the serving file."""
    if wanted != found:
        raise TargetFailed(
            f"the new {place} holds {found} rows instead of {wanted}",
            fix="the old one stays in place; run `kstock-batch score` again, and report it if it remains",
        )
