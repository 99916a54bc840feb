"""Migrations: numbered statements under sql/schema/, applied forward, each in a transaction of its own."""

from pathlib import Path

import duckdb

from kstock_batch.errors import StoreIncompatible
from kstock_batch.store.queries import sql_folder


def _migrations() -> list[Path]:
    return sorted((sql_folder() / "schema").glob("[0-9][0-9][0-9][0-9]_*.sql"))


def newest_version() -> int:
    """Return the schema version that this program reads and writes."""
    return len(_migrations())


def steps_from(version: int) -> list[str]:
    """Return the names of the steps that lead from a schema version to the newest."""
    return [step.stem for step in _migrations()[version:]]


def stored_version(con: duckdb.DuckDBPyConnection, path: Path) -> int:
    """Return the store's schema version; 0 = it is new."""
    tables = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "schema_version" not in tables:
        if tables:
            raise StoreIncompatible(
                f"{path} holds {sorted(tables)[:5]}: it is no store of ours", fix="use another --root"
            )
        return 0
    return int(con.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchall()[0][0])


def migrate(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring the store to the newest schema, one transaction a step; a step that loses rows does not happen."""
    version, steps = stored_version(con, path), _migrations()
    if version > len(steps):
        raise _too_new(path, version, len(steps))
    for number, step in enumerate(steps[version:], start=version + 1):
        con.execute("BEGIN TRANSACTION")
        con.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER, name VARCHAR)")
        before = _n_rows(con)
        con.execute(step.read_text(encoding="utf-8"))
        _require_kept(before, _n_rows(con), path, step)
        con.execute("INSERT INTO schema_version VALUES ($n, $name)", {"n": number, "name": step.stem})
        con.execute("COMMIT")


def _n_rows(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    tables = con.execute("SELECT table_name FROM duckdb_tables() ORDER BY table_name").fetchall()
    return {table: int(con.table(table).count("*").fetchall()[0][0]) for (table,) in tables}


def _require_kept(before: dict[str, int], after: dict[str, int], path: Path, step: Path) -> None:
    lost = {table: (n, after[table]) for table, n in before.items() if table in after and after[table] < n}
    if lost:
        told = ", ".join(f"{table} from {n:,} to {left:,} rows" for table, (n, left) in sorted(lost.items())[:3])
        raise StoreIncompatible(
            f"the step {step.stem} would bring {path} {told}: it was undone",
            fix="go on with the program you had, and report it: this is a mistake of kstock-batch",
        )


def require_newest_schema(con: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Raise unless the store has exactly the schema this program reads."""
    version, newest = stored_version(con, path), len(_migrations())
    if version > newest:
        raise _too_new(path, version, newest)
    if version < newest:
        raise StoreIncompatible(
            f"{path} has schema version {version}, this program reads {newest}",
            fix="run `kstock-batch upgrade`, or any writing command: the store goes forward, with a backup",
        )


def _too_new(path: Path, version: int, newest: int) -> StoreIncompatible:
    return StoreIncompatible(
        f"{path} has schema version {version}, this program knows up to {newest}",
        fix="upgrade kstock-batch, or point --root at another folder",
    )
