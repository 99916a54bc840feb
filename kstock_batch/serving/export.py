"""Export: a table as one Parquet file a session, hive-partitioned, so that any engine reads it without this program.

``DIR/as_of=2024-06-28/part-0.parquet``. A partition is written beside and renamed, so it is whole or not there; the
empty ``DIR/_SUCCESS`` goes before the first change and comes back after the last. Written a second time, a partition
has the same bytes and is left alone.
"""

import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from kstock_batch.errors import ConfigError, DataNotReady
from kstock_batch.features.sessions import session_days
from kstock_batch.files import write_atomically
from kstock_batch.market.sessions import Sessions
from kstock_batch.serving.questions.outside import folder_outside
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse

TABLES = {
    "feature_daily": "features",
    "label_daily": "features",
    "prediction": "score",
}  # and the command that fills it
PART = "part-0.parquet"
SUCCESS = "_SUCCESS"  # empty, because polars takes a file with content for data
SESSIONS_AT_ONCE = 50  # about 130,000 rows; also how many sessions lie together in the store
_PARTITION = re.compile(r"as_of=(\d{4}-\d\d-\d\d)")


@dataclass(frozen=True)
class Export:
    """What an export did: of ``n_partitions`` in the range, ``n_written`` were new or different."""

    folder: Path
    table: str
    start: date
    end: date
    n_rows: int
    n_partitions: int
    n_written: int
    n_removed: int


def export_table(settings: Settings, table: str, folder: Path, *, since: date | None, until: date | None) -> Export:
    """Make the partitions of ``folder`` from ``since`` through ``until`` exactly those of ``table``."""
    with folder_outside(settings, folder), Warehouse.read(settings) as warehouse:
        _require_an_export(folder)
        start, end = _range(warehouse.con, table, since, until)
        n_rows = n_written = 0
        kept: set[date] = set()
        for frame in _chunks(warehouse.con, table, start, end):
            _require_same_columns(folder, frame)
            for (as_of,), rows in frame.partition_by("as_of", as_dict=True, include_key=False).items():
                n_written += _write(folder, as_of, rows)
                kept.add(as_of)
            n_rows += frame.height
        n_removed = _remove_others(folder, kept, since, until)
        (folder / SUCCESS).touch()
    return Export(folder, table, start, end, n_rows, len(kept), n_written, n_removed)


def _range(con: duckdb.DuckDBPyConnection, table: str, since: date | None, until: date | None) -> tuple[date, date]:
    """Return the first and the last session to export."""
    first, newest = con.execute(f"SELECT min(as_of), max(as_of) FROM {table}").fetchall()[0]
    if newest is None:
        raise DataNotReady(f"the store holds no {table} to export", fix=f"run `kstock-batch {TABLES[table]}` first")
    start, end = max(since or first, first), min(until or newest, newest)
    if start > end:
        raise DataNotReady(
            f"{table} holds {first} … {newest}, nothing from {since or first} to {until or newest}",
            fix="name other sessions with --from and --to",
        )
    return start, end


def _chunks(con: duckdb.DuckDBPyConnection, table: str, start: date, end: date) -> Iterator[pl.DataFrame]:
    """Yield the rows of the range, so many sessions at a time that memory stays small."""
    days = Sessions(session_days(con)).between(start, end)
    query = Query.load(f"export/{table}")
    for at in range(0, len(days), SESSIONS_AT_ONCE):
        some = days[at : at + SESSIONS_AT_ONCE]
        if (frame := query.frame(con, start=some[0], end=some[-1])).height:
            yield frame


def _write(folder: Path, as_of: date, rows: pl.DataFrame) -> bool:
    """Write one partition unless it is there already, and return whether it was written."""
    path, data = folder / f"as_of={as_of}" / PART, io.BytesIO()
    rows.write_parquet(data, compression="zstd")
    if path.is_file() and path.read_bytes() == data.getbuffer():
        return False
    (folder / SUCCESS).unlink(missing_ok=True)
    write_atomically(path, data.getvalue())
    return True


def _remove_others(folder: Path, kept: set[date], since: date | None, until: date | None) -> int:
    """Remove partitions of the range that the table no longer holds, and what a killed export left."""
    for left in folder.glob(f"as_of=*/.{PART}.*"):
        left.unlink()
    gone = [day for day in _partitions(folder) if day not in kept and _is_between(day, since, until)]
    for day in gone:
        (folder / SUCCESS).unlink(missing_ok=True)
        shutil.rmtree(folder / f"as_of={day}")
    return len(gone)


def _partitions(folder: Path) -> list[date]:
    matches = (_PARTITION.fullmatch(path.name) for path in folder.iterdir())
    return sorted(date.fromisoformat(match[1]) for match in matches if match)


def _is_between(day: date, since: date | None, until: date | None) -> bool:
    return (since is None or day >= since) and (until is None or day <= until)


def _require_an_export(folder: Path) -> None:
    """Refuse a folder with anything else in it: engines would read it as data, and we remove nothing of others."""
    names = [path.name for path in folder.iterdir()] if folder.exists() else []
    if strange := sorted(name for name in names if name != SUCCESS and not _PARTITION.fullmatch(name)):
        raise ConfigError(f"{folder} holds {strange[:3]}, which is no export", fix="name an empty or new folder")


def _require_same_columns(folder: Path, frame: pl.DataFrame) -> None:
    """Refuse a folder whose partitions are of another table or other features: engines could not read a mixture."""
    existing = next(folder.glob(f"as_of=*/{PART}"), None)
    if existing is None:
        return
    found = list(pl.read_parquet_schema(existing))
    wanted = [name for name in frame.columns if name != "as_of"]
    if found != wanted:
        odd = sorted(set(found) ^ set(wanted)) or "another order"
        raise ConfigError(f"{folder} holds an export with other columns ({odd})", fix="export to a new folder")
