"""Publishing: the serving file is built beside the target, verified by another process, then renamed into place.

1. The store's connection attaches ``.<target>.building`` and fills it from the statements of sql/serve/.
2. Checkpointed and detached, it must stand alone: no write-ahead log beside it.
3. A fresh process that has only duckdb opens it read-only and looks for faults.
4. fsync, rename, fsync of the folder: a reader sees the old publication or the new, never half.

Any failure leaves the old publication as it was. One process publishes at a time: the store's writer lock sees to that.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb

from kstock_batch.bot.quoting import quoted_text
from kstock_batch.errors import DataNotReady, PublicationRefused
from kstock_batch.files import disk_full, disk_full_is_named, rename_into_place
from kstock_batch.serving.standalone import attached, drop_foreign_log, log_of, remove
from kstock_batch.store.catalogue import write_comments
from kstock_batch.store.faults import is_disk_full
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse

SCHEMA_VERSION = 2
CATALOGUE = "serving"
TABLES = (
    *("prediction", "feature_latest", "run", "calendar"),
    *("scorecard", "running_scorecard", "running_decile", "drift"),
)
VIEWS = ("latest", "ml_predictions", "content_digest")
VERIFY_SECONDS = 300

# Run by a fresh interpreter: nothing that this process cached, holds open or believes can hide a fault from it.
_VERIFIER = """
import json, sys
import duckdb
attach, statement, digest = json.load(sys.stdin)
con = duckdb.connect(":memory:")
con.execute("SET enable_progress_bar = false")  # in `python -c` DuckDB draws it on stdout after two seconds
con.execute(attach)
con.execute("USE published")
json.dump(con.execute(statement, {"digest": digest}).fetchall(), sys.stdout)
"""


@dataclass(frozen=True)
class Publication:
    """What was published; ``n_predictions`` counts all sessions in the file."""

    path: Path
    as_of: date
    n_predictions: int
    digest: str


def publish(
    warehouse: Warehouse, target: Path, *, run_id: str, published_at: datetime, model_card: Mapping[str, Any]
) -> Publication:
    """Replace ``target`` by a serving file of everything predicted so far.

    ``published_at`` is UTC (naive, as the store keeps it) or carries its zone.
    """
    temp = target.with_name(f".{target.name}.building")
    with _failures_named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(temp)  # what a killed run left
        try:
            publication = _build(warehouse.con, temp, target, run_id, _naive_utc(published_at), model_card)
            _require_standalone(temp)
            _verify(temp, publication)
            temp.chmod(0o644)  # whatever the umask: the bot may run as another user
            drop_foreign_log(target)
            rename_into_place(temp, target)
        except BaseException:
            remove(temp)
            raise
    return publication


def _build(
    con: duckdb.DuckDBPyConnection,
    temp: Path,
    target: Path,
    run_id: str,
    published_at: datetime,
    model_card: Mapping[str, Any],
) -> Publication:
    """Fill ``temp`` and close it."""
    with attached(con, temp, CATALOGUE):
        for table in TABLES:
            _create_table(con, table)
        _create_table(con, "model_card", **card_rows(model_card))
        for view in VIEWS:
            con.execute(f"CREATE VIEW {CATALOGUE}.{view} AS {Query.load(f'serve/view_{view}').text}")
        digest = con.execute(f"SELECT digest FROM {CATALOGUE}.content_digest").fetchall()[0][0]
        facts = {"schema_version": SCHEMA_VERSION, "published_at": published_at, "run_id": run_id, "digest": digest}
        _create_table(con, "publication", **facts)
        stated = con.execute(f"SELECT as_of, n_predictions FROM {CATALOGUE}.publication").fetchall()
        if not stated:
            raise DataNotReady("the store holds no predictions to publish", fix="run `kstock-batch score`")
        write_comments(con, CATALOGUE)
        con.execute(f"CHECKPOINT {CATALOGUE}")
    as_of, n_predictions = stated[0]
    return Publication(target, as_of, n_predictions, digest)


def _create_table(con: duckdb.DuckDBPyConnection, name: str, **params: Any) -> None:
    con.execute(f"CREATE TABLE {CATALOGUE}.{name} AS {Query.load(f'serve/{name}').text}", params)


def card_rows(model_card: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the parameters of serve/model_card: the facts' names, and each as JSON text."""
    return {"keys": list(model_card), "values": [_json(value) for value in model_card.values()]}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)


def _naive_utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo is None else instant.astimezone(UTC).replace(tzinfo=None)


def _require_standalone(temp: Path) -> None:
    """Refuse a file whose last rows are still in a log: the rename would leave them behind."""
    if log_of(temp).exists():
        raise PublicationRefused(
            f"{log_of(temp)} remained after the checkpoint, so {temp.name} is not complete",
            fix="run `kstock-batch score` again; if it remains, report it: nothing else may open that file",
        )


def _verify(temp: Path, publication: Publication) -> None:
    """Have a fresh process look for faults in ``temp``."""
    attach = f"ATTACH {quoted_text(temp)} AS published (READ_ONLY)"
    order = json.dumps([attach, Query.load("serve/verify").text, publication.digest])
    command = [sys.executable, "-P", "-c", _VERIFIER]  # -P: a file called duckdb.py in this folder is not meant
    try:
        done = subprocess.run(command, input=order, capture_output=True, text=True, timeout=VERIFY_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise _refused(publication.path, f"a fresh process could not read it within {VERIFY_SECONDS} s") from error
    if done.returncode:
        why = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise _refused(publication.path, f"a fresh process cannot read it: {why}")
    if faults := json.loads(done.stdout):
        told = "; ".join(f"{fact} should be {wanted} but is {found}" for fact, wanted, found in faults)
        raise _refused(publication.path, told)


def _refused(target: Path, why: str) -> PublicationRefused:
    return PublicationRefused(
        f"the new publication for {target} is unsound: {why}",
        fix="the last publication stays in place; run `kstock-batch audit`, mend what it names, then score again",
    )


@contextmanager
def _failures_named(target: Path) -> Iterator[None]:
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
    except PermissionError as error:
        raise _unwritable(target, str(error)) from error


def _unwritable(target: Path, why: str) -> PublicationRefused:
    return PublicationRefused(
        f"{target} cannot be published: {why}", fix=f"make the folder {target.parent} writable for this user"
    )
