"""Ad-hoc SQL: one SELECT on the published file or on the store, read-only, within limits, out of reach of any file.

Read-only is not enough. In DuckDB 2 a SELECT may begin with ``WITH x AS (COPY … TO 'file')``, EXPLAIN ANALYZE runs what
it explains, and without external access the path of an attached database and of its log are still allowed, to be
written too. So no file can be opened once the database is, and what does not only ask is refused by its syntax tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from kstock_batch.errors import ConfigError, KStockError, NoPublication
from kstock_batch.quoting import quoted_name, quoted_text
from kstock_batch.serving.questions.limits import Clock, Ended, memory_limited, time_limited
from kstock_batch.settings import Settings
from kstock_batch.store.faults import named_fault
from kstock_batch.store.warehouse import Warehouse

if TYPE_CHECKING:
    import pyarrow as pa  # loaded only where a file is written: `status` need not wait for it

BATCH = 50_000  # rows in memory at a time, whatever the answer's size
_QUESTIONS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}
_EXPLAINED = re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+|\([^()]*\)\s*)?(.*)", re.DOTALL | re.IGNORECASE)
_TREE = "SELECT json_serialize_sql($text)"
_NO_TREE = '{"error":true'
_WRITES = re.compile(r'"type":"([A-Z]+)_QUERY_NODE"')  # inside a text of the asker's the quotes are escaped
# In this order. A frame of ours is no table of the asker's; nothing spills, for a spill is a file too.
_CLOSED = (
    "SET python_enable_replacements = false",
    "SET temp_directory = ''",
    "SET enable_external_access = false",
    "SET disabled_filesystems = 'LocalFileSystem'",
    "SET lock_configuration = true",
)
_NESTED = {"list", "array", "struct", "map", "union", "variant"}
_UNCOMMON = {"interval", "bit", "blob", "uuid", "bignum"}  # what CSV has no form for, and Parquet writers often none


@dataclass
class Answer:
    """The answer of one SELECT, computed as it is read.

    Attributes
    ----------
    clock : says when the time is over
    limit : rows read at most; None = all
    params : values of the statement's parameters; an asker's statement has none
    n_rows, is_cut : how many were read so far, and whether there were more than ``limit``
    """

    con: duckdb.DuckDBPyConnection
    path: Path
    statement: str
    clock: Clock
    limit: int | None = None
    params: Mapping[str, Any] | None = None
    n_rows: int = 0
    is_cut: bool = False

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows as dictionaries, for tables and JSON."""
        with _faults_are_named(self.path, self.clock):
            cursor = self.con.execute(self.statement, self.params)
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
        with _faults_are_named(self.path, self.clock):
            relation = self.con.sql(self.statement, params=self.params)
            _distinct(relation.columns)
            kinds = dict(zip(relation.columns, (kind.id for kind in relation.types), strict=True))
            if any(kind in _NESTED | _UNCOMMON for kind in kinds.values()):
                relation = relation.project(", ".join(_plain(name, kind, flat) for name, kind in kinds.items()))
            reader = relation.to_arrow_reader(BATCH)
        return reader.schema, self._counted(reader)

    def _counted(self, reader: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with _faults_are_named(self.path, self.clock):
            for batch in reader:
                room = batch.num_rows if self.limit is None else self.limit - self.n_rows
                self.is_cut = batch.num_rows > room
                if room:
                    self.n_rows += min(room, batch.num_rows)
                    yield batch.slice(0, room)
                if self.is_cut:
                    return


def _leave_it(_: KStockError) -> None:
    """Do no more than interrupt: ending the process is for a command, not for a library."""


@contextmanager
def asked(
    settings: Settings,
    statement: str,
    *,
    of_store: bool,
    limit: int | None,
    params: Mapping[str, Any] | None = None,
    seconds: float | None = None,
    end_process: Ended = _leave_it,
) -> Iterator[Answer]:
    """Yield the answer of one SELECT on the published file, or on the store under its shared lock.

    ``seconds`` are for computing, reading and handing on; what cannot be interrupted then is left to ``end_process``.
    """
    opened = _store(settings) if of_store else _published(settings)
    with memory_limited(settings.memory_limit), opened as (con, path), time_limited(con, seconds, end_process) as clock:
        for setting in _CLOSED:
            con.execute(setting)
        _require_a_question(con, path, clock, statement)
        yield Answer(con, path, statement, clock, limit, params)


@contextmanager
def _store(settings: Settings) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    with Warehouse.read(settings) as warehouse:
        yield warehouse.con, warehouse.path


@contextmanager
def _published(settings: Settings) -> Iterator[tuple[duckdb.DuckDBPyConnection, Path]]:
    published = settings.published
    if not published.is_file():
        raise NoPublication(f"there is no publication at {published}", fix="run `kstock-batch score` first")
    config: dict[str, Any] = {"threads": settings.threads}
    if settings.memory_limit:
        config["memory_limit"] = settings.memory_limit
    con = duckdb.connect(":memory:", config=config)
    try:
        _attach(con, published)
        yield con, published
    finally:
        con.close()


def _attach(con: duckdb.DuckDBPyConnection, published: Path) -> None:
    try:
        con.execute(f"ATTACH {quoted_text(published)} AS published (READ_ONLY)")
        con.execute("USE published")
    except duckdb.Error as error:
        raise NoPublication(
            f"{published} cannot be opened: {str(error).splitlines()[0]}",
            fix="run `kstock-batch score` to publish anew",
        ) from error


def _require_a_question(con: duckdb.DuckDBPyConnection, path: Path, clock: Clock, text: str) -> None:
    """Raise unless ``text`` is one statement, and one that only asks, as does what it explains."""
    with _faults_are_named(path, clock):
        statements = con.extract_statements(text)
    if len(statements) != 1:
        raise _unanswerable(f"it holds {len(statements)} statements instead of one")
    if (kind := statements[0].type) not in _QUESTIONS:
        raise _unanswerable(f"it is of kind {kind.name}, which does not only ask")
    explained = _EXPLAINED.fullmatch(text) if kind == duckdb.StatementType.EXPLAIN else None
    with _faults_are_named(path, clock):
        tree = str(con.execute(_TREE, {"text": explained[1] if explained else text}).fetchall()[0][0])
    if tree.startswith(_NO_TREE):
        raise _unanswerable("it is no SELECT, or explains what is none")
    if writes := _WRITES.search(tree):
        raise _unanswerable(f"it holds a statement of kind {writes[1]}, which does not only ask")


def _distinct(names: list[str]) -> list[str]:
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise _unanswerable(f"several columns are called {repeated[0]}: name them apart with AS")
    return names


def _plain(name: str, kind: str, flat: bool) -> str:
    """Return the column, or its text where a file has no form for its type."""
    quoted = quoted_name(name)
    if kind in _UNCOMMON:
        return f"CAST({quoted} AS VARCHAR) AS {quoted}"
    return f"CAST(to_json({quoted}) AS VARCHAR) AS {quoted}" if flat and kind in _NESTED else quoted


@contextmanager
def _faults_are_named(path: Path, clock: Clock) -> Iterator[None]:
    """Translate what DuckDB says of a statement, or of the file it reads, into one sentence."""
    try:
        yield
    except (duckdb.Error, OSError) as error:  # pyarrow tells of DuckDB's errors as its own, which are OSErrors
        if "interrupted" in str(error).lower():
            clock.require_time()
        raise named_fault(error, path) or _unanswerable(str(error).splitlines()[0]) from error


def _unanswerable(why: str) -> ConfigError:
    return ConfigError(
        f"the statement cannot be answered: {why}",
        fix="ask one read-only SELECT; `kstock-batch sql 'SHOW TABLES'` lists what there is",
    )
