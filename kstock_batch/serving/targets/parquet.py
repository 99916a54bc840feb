"""The Parquet target: ``parquet/current/{prediction,publication,model_card,calendar}.parquet``.

A generation is a folder named by its content's digest, built beside and renamed; ``current`` is a link that one more
rename turns from the old generation to the new. The old one stays until the next, so that whoever has resolved the
link (``Path.resolve``) or opened a file reads one generation to the end.
"""

import os
import re
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from kstock_batch.files import fsync, rename_into_place
from kstock_batch.quoting import quoted_text
from kstock_batch.serving.targets.content import KEYS, Content
from kstock_batch.serving.targets.failures import failures_named, require_all, require_no_folder

CURRENT = "current"
ROWS_AT_ONCE = 20_480  # about eight sessions: who asks for the newest reads little more than it
_GENERATION = re.compile(r"[0-9a-f]{16}")


def write_parquet(content: Content, folder: Path) -> bool:
    """Make ``folder``/current hold the content and return whether it did not before."""
    generation, link = folder / content.digest[:16], folder / CURRENT
    with failures_named(folder):
        require_no_folder(link)
        before = os.readlink(link) if link.is_symlink() else None
        if before == generation.name and _is_whole(generation):
            return False
        temp = folder / ".building"
        shutil.rmtree(temp, ignore_errors=True)  # what a killed run left
        try:
            temp.mkdir(parents=True)
            for relation in KEYS:
                _write(content, relation, temp / f"{relation}.parquet")
            _verify(content, temp)
            for place in (folder, temp):
                place.chmod(0o755)  # whatever the umask: the reader may run as another user
            shutil.rmtree(generation, ignore_errors=True)  # of these rows once before; whole or not
            rename_into_place(temp, generation)
        except BaseException:
            shutil.rmtree(temp, ignore_errors=True)
            raise
        _point(link, generation)
        _remove_all_but(folder, {generation.name, before})
    return True


def _is_whole(generation: Path) -> bool:
    return all((generation / f"{relation}.parquet").is_file() for relation in KEYS)


def _write(content: Content, relation: str, path: Path) -> None:
    rows = f"SELECT * FROM {relation}"  # in the serving file's own order: newest session first, best first
    options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROWS_AT_ONCE}"
    content.con.execute(f"COPY ({rows}) TO {quoted_text(path)} ({options})")
    path.chmod(0o644)
    fsync(path)


def _verify(content: Content, folder: Path) -> None:
    found = {relation: pq.read_metadata(folder / f"{relation}.parquet").num_rows for relation in KEYS}
    require_all(folder, {relation: content.n_rows(relation) for relation in KEYS}, found)


def _point(link: Path, generation: Path) -> None:
    """Turn the link to the generation: a reader follows the old one or the new."""
    temp = link.with_name(f".{link.name}")
    temp.unlink(missing_ok=True)
    temp.symlink_to(generation.name)
    rename_into_place(temp, link)


def _remove_all_but(folder: Path, kept: set[str | None]) -> None:
    for path in folder.iterdir():
        if path.name not in kept and _GENERATION.fullmatch(path.name):
            shutil.rmtree(path)
