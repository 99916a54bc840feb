"""Migrations: numbered statements under sql/schema/, applied forward, each in a transaction of its own."""

from pathlib import Path

import duckdb

from kstock_batch.errors import StoreIncompatible
from kstock_batch.store.queries import sql_folder


def _migrations() -> list[Path]:
    return sorted((sql_folder() / "schema").glob("[0-9][0-9][0-9][0-9]_*.sql"))


def _version(con: duckdb.DuckDBPyConnection, path: Path) -> int:
    tables = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "schema_version" not in tables:
        if tables:
            raise StoreIncompatible(
                f"{path} holds {sorted(tables)[:5]}: it is no store of ours", fix="use another --root"
            )
        return 0
    return int(con.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()[0][0])


def migrate(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring the store to the newest schema, one transaction a step."""
    version, steps = _version(con, path), _migrations()
    if version > len(steps):
        raise _too_new(path, version, len(steps))
    for number, step in enumerate(steps[version:], start=version + 1):
        con.execute("BEGIN TRANSACTION")
        con.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER, name VARCHAR)")
        con.execute(step.read_text(encoding="utf-8"))
        con.execute("INSERT INTO schema_version VALUES ($n, $name)", {"n": number, "name": step.stem})
        con.execute("COMMIT")


def require_newest_schema(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise unless the store has exactly the schema this program reads."""
    version, newest = _version(con, path), len(_migrations())
    if version > newest:
        raise _too_new(path, version, newest)
    if version < newest:
        raise StoreIncompatible(
            f"{path} has schema version {version}, this program reads {newest}",
            fix="run any writing command (`kstock-batch features`) once: it migrates the store forward",
        )


def _too_new(path: Path, version: int, newest: int) -> StoreIncompatible:
    return StoreIncompatible(
        f"{path} has schema version {version}, this program knows up to {newest}",
        fix="upgrade kstock-batch, or point --root at another folder",
    )
