"""Ad-hoc SQL: one SELECT on the published file or on the store, read-only, and out of reach of every other file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from kstock_batch.errors import ConfigError, NoPublication
from kstock_batch.settings import Settings
from kstock_batch.store.faults import named_fault
from kstock_batch.store.warehouse import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa  # loaded only where a file is written: `status` need not wait for it

BATCH = 50_000  # rows in memory at a time, whatever the answer's size
_QUESTIONS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_NESTED = {"list", "array", "struct", "map", "union", "variant"}
_UNCOMMON = {"interval", "bit", "blob", "uuid", "bignum"}  # what CSV has no form for, and Parquet writers often none


@dataclass
class Answer:
    """The answer of one SELECT, computed as it is read.

    Attributes
    ----------
    limit : rows read at most; None = all
    n_rows, is_cut : how many were read so far, and whether there were more than ``limit``
    """

    con: duckdb.DuckDBPyConnection
    path: Path
    statement: str
    limit: int | None = None
    n_rows: int = 0
    is_cut: bool = False

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as dictionaries, for tables and JSON."""
        with _faults_are_named(self.path):
            cursor = self.con.execute(self.statement)
            names = _distinct([column[0] for column in cursor.description or ()])
            while found := cursor.fetchmany(BATCH if self.limit is None else min(BATCH, self.limit + 1 - self.n_rows)):
                for row in found:
                    if self.n_rows == self.limit:
                        self.is_cut = True
                        return
                    self.n_rows += 1
                    yield dict(zip(names, row, strict=True))

    def batches(self, *, flat: bool) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Return the columns and the rows as record batches; ``flat`` = lists and structs are JSON texts."""
        with _faults_are_named(self.path):
            relation = self.con.sql(self.statement)
            _distinct(relation.columns)
            kinds = dict(zip(relation.columns, (kind.id for kind in relation.types), strict=True))
            if any(kind in _NESTED | _UNCOMMON for kind in kinds.values()):
                relation = relation.project(", ".join(_plain(name, kind, flat) for name, kind in kinds.items()))
            reader = relation.to_arrow_reader(BATCH)
        return reader.schema, self._counted(reader)

    def _counted(self, reader: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with _faults_are_named(self.path):
            for batch in reader:
                room = batch.num_rows if self.limit is None else self.limit - self.n_rows
                self.is_cut = batch.num_rows > room
                if room:
                    self.n_rows += min(room, batch.num_rows)
                    yield batch.slice(0, room)
                if self.is_cut:
                    return


@contextmanager
def asked(settings: Settings, statement: str, *, of_store: bool, limit: int | None) -> Iterator[Answer]:
    """Yield the answer of one SELECT on the published file, or on the store under its shared lock."""
    with _store(settings) if of_store else _published(settings) as (con, path):
        # A frame of ours is no table of the asker's; and nothing but the file at hand can be opened from here on.
        con.execute("SET python_enable_replacements = false")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        yield Answer(con, path, _one_select(con, path, statement), limit)


@contextmanager
def _store(settings: Settings) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    with Warehouse.read(settings) as warehouse:
        yield warehouse.con, warehouse.path


@contextmanager
def _published(settings: Settings) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    published = settings.published
    if not published.is_file():
        raise NoPublication(f"there is no publication at {published}", fix="run `kstock-batch score` first")
    con = duckdb.connect(":memory:", config={"threads": settings.threads})
    try:
        _attach(con, published)
        yield con, published
    finally:
        con.close()


def _attach(con: duckdb.DuckDBPyConnection, published: Path) -> None:
    quoted = str(published).replace("'", "''")
    try:
        con.execute(f"ATTACH '{quoted}' AS published (READ_ONLY)")
        con.execute("USE published")
    except duckdb.Error as error:
        raise NoPublication(
            f"{published} cannot be opened: {str(error).splitlines()[0]}",
            fix="run `kstock-batch score` to publish anew",
        ) from error


def _one_select(con: duckdb.DuckDBPyConnection, path: Path, text: str) -> str:
    """Return the statement if it is one, and one that only asks."""
    with _faults_are_named(path):
        statements = con.extract_statements(text)
    if len(statements) != 1:
        raise _unanswerable(f"it holds {len(statements)} statements instead of one")
    if (kind := statements[0].type) not in _QUESTIONS:
        raise _unanswerable(f"it is of kind {kind.name}, which does not only ask")
    return text


def _distinct(names: list[str]) -> list[str]:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise _unanswerable(f"several columns are called {repeated[0]}: name them apart with AS")
    return names


def _plain(name: str, kind: str, flat: bool) -> str:
    """Return the column, or its text where a file has no form for its type."""
    quoted = '"{}"'.format(name.replace('"', '""'))
    if kind in _UNCOMMON:
        return f"CAST({quoted} AS VARCHAR) AS {quoted}"
    return f"CAST(to_json({quoted}) AS VARCHAR) AS {quoted}" if flat and kind in _NESTED else quoted


@contextmanager
def _faults_are_named(path: Path) -> Iterator[None]:
    """Translate what DuckDB says of a statement, or of the file it reads, into one sentence."""
    try:
        yield
    except duckdb.Error as error:
        raise named_fault(error, path) or _unanswerable(str(error).splitlines()[0]) from error


def _unanswerable(why: str) -> ConfigError:
    return ConfigError(
        f"the statement cannot be answered: {why}",
        fix="ask one read-only SELECT; `kstock-batch sql 'SHOW TABLES'` lists what there is",
    )
