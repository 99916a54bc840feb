"""Snapshot: features, labels and predictions as one DuckDB file of an analyst's own, with views, macros and comments.

Built beside the target from the store opened for reading, in a format that older DuckDBs read, checked, then renamed
into place: an analyst never touches the store, and an open snapshot is never half of a new one.
"""

from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from kstock_batch.errors import ConfigError, DataNotReady, PublicationRefused
from kstock_batch.files import log_of, rename_into_place
from kstock_batch.market.contract import fingerprint
from kstock_batch.quoting import quoted_name
from kstock_batch.serving.publication.standalone import attached, drop_foreign_log, remove
from kstock_batch.serving.questions.outside import file_outside
from kstock_batch.settings import Settings
from kstock_batch.store.catalogue import install_catalogue
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse

HANDED_OUT = "handed_out"  # no table of ours is called that, so `handed_out.x` means one thing
TABLES = (
    *("raw_calendar", "raw_listing", "feature_daily", "label_daily", "prediction"),
    *("floor_prediction", "early_return"),
)
EVER = date.min


@dataclass(frozen=True)
class Snapshot:
    """What was handed out."""

    path: Path
    start: date
    end: date
    n_rows: int
    n_bytes: int


def take_snapshot(settings: Settings, target: Path, *, since: date | None, at: datetime) -> Snapshot:
    """Replace ``target`` by a snapshot of the store from ``since`` (default: the beginning) on."""
    temp = target.with_name(f".{target.name}.building")
    # The file is the inner of the two: a full disk is its own, not the store's.
    with Warehouse.read(settings) as warehouse, file_outside(settings, target):
        _require_no_other_file(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(temp)  # what a killed run left
        try:
            start, end, n_rows = _build(warehouse.con, temp, since or EVER, at)
            _verify(temp, n_rows)
            temp.chmod(0o644)
            drop_foreign_log(target)
            rename_into_place(temp, target)
        except BaseException:
            remove(temp)
            raise
    return Snapshot(target, start, end, n_rows, target.stat().st_size)


def _build(con: duckdb.DuckDBPyConnection, temp: Path, since: date, at: datetime) -> tuple[date, date, int]:
    """Fill ``temp`` and close it; return the sessions it reaches and its rows of features."""
    with attached(con, temp, HANDED_OUT):
        _create(con, "snapshot", {"since": since, "taken_at": at, "fingerprint": fingerprint()})
        facts = f"SELECT from_session, through_session, n_features FROM {HANDED_OUT}.snapshot"
        start, end, n_rows = con.execute(facts).fetchall()[0]
        if not n_rows:
            told = "" if since == EVER else f" from {since} on"
            raise DataNotReady(f"the store holds no features{told}", fix="run `kstock-batch features` first")
        for table in TABLES:
            _create(con, table, {"since": since})
        _install_catalogue(con)
        con.execute(f"CHECKPOINT {HANDED_OUT}")
    return start, end, n_rows


def _create(con: duckdb.DuckDBPyConnection, table: str, given: dict[str, object]) -> None:
    query = Query.load(f"snapshot/{table}")
    params = {name: value for name, value in given.items() if name in query.params}
    con.execute(f"CREATE TABLE {HANDED_OUT}.{table} AS {query.text}", params)


def _install_catalogue(con: duckdb.DuckDBPyConnection) -> None:
    store = con.execute("SELECT current_database()").fetchall()[0][0]
    con.execute(f"USE {HANDED_OUT}")
    try:
        install_catalogue(con)
    finally:
        con.execute(f"USE {quoted_name(store)}")


def _verify(temp: Path, n_rows: int) -> None:
    """Refuse a file that is not complete without its log, or whose views do not answer from it alone."""
    fix = "take it again; if it remains, report it: the store itself is as it was"
    if log_of(temp).exists():
        raise PublicationRefused(f"{log_of(temp)} remained after the checkpoint: {temp.name} is not complete", fix=fix)
    with duckdb.connect(str(temp), read_only=True) as con:
        found = con.execute("SELECT count(*) FROM labelled_feature").fetchall()[0][0]
    if found != n_rows:
        raise PublicationRefused(f"{temp} answers with {found} rows of features instead of {n_rows}", fix=fix)


def _require_no_other_file(target: Path) -> None:
    """Refuse to replace a file that is no DuckDB database: a slip of the keyboard must not cost somebody's work."""
    if not target.exists():
        return
    with target.open("rb") as file:
        if file.read(12)[8:] != b"DUCK":
            raise ConfigError(f"{target} is no DuckDB file", fix="name another --out; only a snapshot is replaced")
