"""Files and folders for people outside: never in place of one of ours, and a fault in writing them is one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from kstock_batch.errors import ConfigError
from kstock_batch.files import disk_full, disk_full_is_named, says_disk_full
from kstock_batch.settings import FILE_NAME, Settings


@contextmanager
def file_outside(settings: Settings, path: Path) -> Iterator[None]:
    """Let the body write a file at ``path``, or say why none can be written there."""
    if path.is_dir():
        raise _refused(path, "it is a folder")
    with _outside(settings, path):
        yield


@contextmanager
def folder_outside(settings: Settings, path: Path) -> Iterator[None]:
    """Let the body write files into the folder ``path``, or say why none can be written there."""
    if path.exists() and not path.is_dir():
        raise _refused(path, "it is a file")
    with _outside(settings, path):
        yield


@contextmanager
def _outside(settings: Settings, path: Path) -> Iterator[None]:
    ours = [own.resolve() for own in (settings.warehouse, settings.models, settings.root / FILE_NAME)]
    place = path.resolve()
    if any(place == own or own in place.parents for own in ours):
        raise _refused(path, "it belongs to this installation")
    if path.is_symlink() or (path.exists() and not (path.is_file() or path.is_dir())):
        raise _refused(path, "it is no plain file")
    try:
        with disk_full_is_named(path):
            yield
    except OSError as error:
        if says_disk_full(error):  # pyarrow tells it in words, without the system's number
            raise disk_full(path) from error
        raise _refused(path, str(error)) from error
    except duckdb.IOException as error:
        if says_disk_full(error):
            raise disk_full(path) from error
        raise _refused(path, str(error).splitlines()[0]) from error


def _refused(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} cannot be written: {why}", fix="name another --out, where this user may write")
