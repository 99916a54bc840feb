"""Publishing: the serving file is built beside the target, verified by another process, then renamed into place.

1. ``.<target>.building`` begins as a copy of the last publication; the store's connection attaches it and makes it hold
   what the store holds (contents.py). Where that cannot be, it is built from nothing.
2. Checkpointed and detached, it must stand alone: no write-ahead log beside it.
3. A fresh process that has only duckdb opens it read-only and looks for faults (verifier.py).
4. fsync, rename, fsync of the folder: a reader sees the old publication or the new, never half.
5. The new publication is kept as a generation, the oldest beyond the limit are deleted (generations.py).

Any failure leaves the old publication as it was. One process publishes at a time: a lock file beside the target, which
a rollback takes too, sees to that.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from kstock_batch.errors import PublicationRefused
from kstock_batch.files import disk_full, disk_full_is_named, log_of, rename_into_place
from kstock_batch.serving.publication.contents import CATALOGUE, CannotCarry, Contents, fill
from kstock_batch.serving.publication.generations import Generations, WentBack
from kstock_batch.serving.publication.standalone import attached, drop_foreign_log, remove
from kstock_batch.serving.publication.verifier import Verifier
from kstock_batch.settings import Settings
from kstock_batch.store.faults import is_disk_full
from kstock_batch.store.lock import release_lock, take_lock
from kstock_batch.store.warehouse import Warehouse

log = logging.getLogger(__name__)

_AGAIN = "run `kstock-batch score` again"


@dataclass(frozen=True)
class Publication:
    """What was published; ``n_predictions`` counts all sessions in the file, ``went_back`` is the rollback it ended."""

    path: Path
    as_of: date
    n_predictions: int
    digest: str
    went_back: WentBack | None = None


def publish(
    warehouse: Warehouse,
    target: Path,
    *,
    run_id: str,
    published_at: datetime,
    model_card: Mapping[str, Any],
    generations: int = Settings.generations,
) -> Publication:
    """Replace ``target`` by a serving file of everything predicted so far, and keep the last ``generations``.

    ``published_at`` is UTC (naive, as the store keeps it) or carries its zone.
    """
    facts = {"run_id": run_id, "published_at": _naive_utc(published_at)}
    with publishing(target):
        kept = Generations(target)
        kept.keep_current()  # a job killed after its rename has not kept what it published
        went_back = kept.went_back()
        contents, sha256 = _built(warehouse.con, target, facts, model_card)
        drop_foreign_log(target)
        rename_into_place(building(target), target)
        kept.keep(run_id, sha256)
        kept.prune(generations)
    return Publication(target, contents.as_of, contents.n_predictions, contents.digest, went_back)


@contextmanager
def publishing(target: Path) -> Iterator[None]:
    """Keep every other process from publishing to ``target``; what disk or folder refuse leaves as one sentence."""
    if target.is_dir():
        raise PublicationRefused(
            f"{target} is a folder, where the published file must be", fix=f"move it away, then {_AGAIN}"
        )
    with failures_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = take_lock(target.with_suffix(".lock"))
        try:
            yield
        finally:
            remove(building(target))  # whatever failed here, or was killed before
            release_lock(lock, is_writer=True)


def _built(
    con: duckdb.DuckDBPyConnection, target: Path, facts: Mapping[str, Any], model_card: Mapping[str, Any]
) -> tuple[Contents, str]:
    """Build and verify the new file beside ``target``: upon the last publication if that will do, or from nothing."""
    temp = building(target)
    if target.exists():
        try:
            remove(temp)
            shutil.copyfile(target, temp)
            return _verified(con, temp, target, facts, model_card)
        except CannotCarry as reason:
            log.info("the publication is built from nothing: %s", reason)
        except (duckdb.Error, PublicationRefused) as error:
            if isinstance(error, duckdb.Error) and is_disk_full(error):
                raise
            why = str(error).splitlines()[0]  # a second line is what to do, which is being done
            log.warning("the last publication cannot be carried on, a new one is built from nothing: %s", why)
    remove(temp)
    return _verified(con, temp, target, facts, model_card)


def _verified(
    con: duckdb.DuckDBPyConnection,
    temp: Path,
    target: Path,
    facts: Mapping[str, Any],
    model_card: Mapping[str, Any],
) -> tuple[Contents, str]:
    """Fill ``temp``, close it, have a fresh process look for faults, and return what it holds and its SHA-256."""
    with Verifier() as verifier:
        contents = _build(con, temp, facts, model_card)
        _require_standalone(temp)
        asked = {name: asdict(contents)[name] for name in ("digest", "row_hash", "start", "end")}
        verdict = verifier.verify(temp, asked)
    if verdict.faults:
        raise _refused(target, verdict.faults)
    temp.chmod(0o644)  # whatever the umask: the bot may run as another user
    return contents, verdict.sha256


def _build(
    con: duckdb.DuckDBPyConnection, temp: Path, facts: Mapping[str, Any], model_card: Mapping[str, Any]
) -> Contents:
    """Fill ``temp`` and close it."""
    with attached(con, temp, CATALOGUE):
        return fill(con, facts, model_card)


def building(target: Path) -> Path:
    """Return where the next publication is made ready: beside the target, so that a rename can put it in place."""
    return target.with_name(f".{target.name}.building")


def _naive_utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo is None else instant.astimezone(UTC).replace(tzinfo=None)


def _require_standalone(temp: Path) -> None:
    """Refuse a file whose last rows are still in a log: the rename would leave them behind."""
    if log_of(temp).exists():
        raise PublicationRefused(
            f"{log_of(temp)} remained after the checkpoint, so {temp.name} is not complete",
            fix=f"{_AGAIN}; if it remains, report it: nothing else may open that file",
        )


def _refused(target: Path, why: str) -> PublicationRefused:
    return PublicationRefused(
        f"the new publication for {target} is unsound: {why}",
        fix="the last publication stays in place; run `kstock-batch audit`, mend what it names, then score again",
    )


@contextmanager
def failures_named(target: Path) -> Iterator[None]:
    """Translate a full disk and a folder that cannot be written into one sentence."""
    try:
        with disk_full_is_named(target):
            yield
    except duckdb.Error as error:
        if is_disk_full(error):
            raise disk_full(target) from error
        if isinstance(error, duckdb.IOException):
            raise _unwritable(target, str(error).splitlines()[0]) from error
        raise
    except OSError as error:
        raise _unwritable(target, str(error)) from error


def _unwritable(target: Path, why: str) -> PublicationRefused:
    return PublicationRefused(
        f"{target} cannot be published: {why}", fix=f"make the folder {target.parent} writable for this user"
    )
