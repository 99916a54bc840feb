"""The catalogue: views and table macros of sql/views/, and what every column means, kept inside the database itself.

So any DuckDB tool that opens the file shows them, without this program. A statement that declares parameters becomes a
macro, one without becomes a view; the digest of all texts is kept too, so that an unchanged database is not written to.
"""

import hashlib
import tomllib
from collections.abc import Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import duckdb

from kstock_batch.market.contract import FEATURES
from kstock_batch.quoting import quoted_name, quoted_text
from kstock_batch.store.queries import Query, sql_folder

_COMMENTS = Path(__file__).with_name("comments.toml")
_DROPPED = {"VIEW": "VIEW", "MACRO TABLE": "MACRO TABLE"}  # what is read from a store is no part of a statement
_MAKERS = ("views/{}", "serve/view_{}", "serve/{}", "snapshot/{}")  # statements a relation can have been made from


def install_catalogue(con: duckdb.DuckDBPyConnection) -> None:
    """Make the views, macros and comments of the current database this program's; write nothing if they are."""
    con.execute("CREATE TABLE IF NOT EXISTS catalogue (kind VARCHAR, name VARCHAR, digest VARCHAR)")
    columns = con.execute(
        "SELECT table_name, column_name FROM duckdb_columns() JOIN duckdb_tables() USING (database_name, table_name)"
        " WHERE database_name = current_database() ORDER BY ALL"
    ).fetchall()
    queries = _installable({table for table, _ in columns})
    digest = _digest(queries, columns)
    stored = con.execute("SELECT kind, name, digest FROM catalogue").fetchall()
    if {known for _, _, known in stored} == {digest}:
        return
    con.execute("BEGIN TRANSACTION")
    for kind, name, _ in stored:
        con.execute(f"DROP {_DROPPED[kind]} IF EXISTS {quoted_name(name)}")
    con.execute("DELETE FROM catalogue")
    for query in queries:
        con.execute(_definition(query))
        row = {"kind": _kind(query), "name": _name(query), "digest": digest}
        con.execute("INSERT INTO catalogue VALUES ($kind, $name, $digest)", row)
    write_comments(con)
    con.execute("COMMIT")


def write_comments(con: duckdb.DuckDBPyConnection, database: str | None = None, *, has_macros: bool = True) -> None:
    """Say in ``database`` (default: the current one) what each table, view, macro and column in it means.

    Without ``has_macros`` none are looked for: DuckDB lists its own three thousand functions to find them.
    """
    where = {"database": database or con.execute("SELECT current_database()").fetchall()[0][0]}
    place = f"{where['database']}.main"
    relations = con.execute(
        "SELECT 'TABLE', table_name, comment FROM duckdb_tables() WHERE database_name = $database"
        " UNION ALL"
        " SELECT 'VIEW', view_name, comment FROM duckdb_views() WHERE database_name = $database AND NOT internal",
        where,
    ).fetchall()
    if has_macros:
        relations += con.execute(
            "SELECT 'MACRO TABLE', function_name, comment FROM duckdb_functions()"
            " WHERE database_name = $database AND function_type = 'table_macro' AND NOT internal",
            where,
        ).fetchall()
    columns = con.execute(
        "SELECT table_name, column_name, comment FROM duckdb_columns()"
        " WHERE database_name = $database AND NOT internal",
        where,
    ).fetchall()
    # What is said already is not said again: a publication carries most of it from the one before.
    for kind, name, said in relations:
        if (meaning := relation_meaning(name)) != said:
            _comment(con, f"{kind} {place}.{quoted_name(name)}", meaning)
    for relation, name, said in columns:
        if (meaning := column_meaning(relation, name)) != said:
            _comment(con, f"COLUMN {place}.{quoted_name(relation)}.{quoted_name(name)}", meaning)


def relation_meaning(relation: str) -> str | None:
    """Return what a table, view or macro is, or None if nobody has said."""
    return _comments().get(relation, {}).get("*") or next((query.what for query in _makers(relation)), None)


def column_meaning(relation: str, column: str) -> str | None:
    """Return what a column of a relation means, with its unit, or None if nobody has said."""
    return _own_meaning(relation, column) or _comments()["every"].get(column)


def _own_meaning(relation: str, column: str, asked: frozenset[str] = frozenset()) -> str | None:
    """Return what the column means in this relation, or in the first of those it was made from that knows.

    ``asked`` do not know: a published table may have the name of the store's table it was made from.
    """
    if said := _comments().get(relation, {}).get(column):
        return said
    if relation == "feature_daily" and column in _definitions():
        return _definitions()[column]
    asked |= {relation}
    sources = (source for query in _makers(relation) for source in query.reads if source not in asked)
    return next((said for source in sources if (said := _own_meaning(source, column, asked))), None)


def _installable(tables: set[str]) -> list[Query]:
    """Return the views and macros that can stand on ``tables``, each after what it reads."""
    queries = {path.stem: Query.load(f"views/{path.stem}") for path in sorted((sql_folder() / "views").glob("*.sql"))}
    order = TopologicalSorter({name: query.reads for name, query in queries.items()}).static_order()
    known, found = set(tables), []
    for name in order:
        if name in queries and known.issuperset(queries[name].reads):
            known.add(name)
            found.append(queries[name])
    return found


def _definition(query: Query) -> str:
    """Return the statement that creates a view or macro; a macro's parameters are plain names in its text."""
    if not query.declared:
        return f"CREATE OR REPLACE VIEW {_name(query)} AS {query.text}"
    text = query.text.replace("$", "")
    return f"CREATE OR REPLACE MACRO {_name(query)}({', '.join(query.declared)}) AS TABLE {text}"


def _kind(query: Query) -> str:
    return "MACRO TABLE" if query.declared else "VIEW"


def _name(query: Query) -> str:
    return query.name.removeprefix("views/")


def _digest(queries: list[Query], columns: list[tuple[str, str]]) -> str:
    parts = [*(query.text for query in queries), _COMMENTS.read_text(encoding="utf-8"), repr(_definitions())]
    return hashlib.sha256(repr((parts, columns)).encode()).hexdigest()[:12]


def _comment(con: duckdb.DuckDBPyConnection, what: str, meaning: str | None) -> None:
    if meaning is not None:
        con.execute(f"COMMENT ON {what} IS {quoted_text(meaning)}")


@cache
def _makers(relation: str) -> tuple[Query, ...]:
    names = (place.format(relation) for place in _MAKERS)
    return tuple(Query.load(name) for name in names if (sql_folder() / f"{name}.sql").is_file())


@cache
def _comments() -> Mapping[str, Mapping[str, str]]:
    return tomllib.loads(_COMMENTS.read_text(encoding="utf-8"))


@cache
def _definitions() -> Mapping[str, str]:
    return {feature.name: feature.definition for feature in FEATURES}
