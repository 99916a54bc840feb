"""Ad-hoc SQL on the published file: read-only, and out of reach of every other file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from kstock_batch.errors import ConfigError, NoPublication


@dataclass(frozen=True)
class Answer:
    """Rows of an answer, at most as many as were asked for."""

    rows: list[dict[str, Any]]
    is_cut: bool


def ask(published: Path, statement: str, *, limit: int) -> Answer:
    """Return the answer of one SELECT on the published file."""
    con = _open(published)
    try:
        cursor = con.execute(statement)
        if cursor.description is None:
            return Answer([], is_cut=False)
        names = [column[0] for column in cursor.description]
        found = cursor.fetchmany(limit + 1)
    except duckdb.Error as error:
        raise ConfigError(
            f"the statement cannot be answered: {str(error).splitlines()[0]}",
            fix="ask one read-only SELECT; `kstock-batch sql 'SHOW TABLES'` lists what there is",
        ) from error
    finally:
        con.close()
    return Answer([dict(zip(names, row, strict=True)) for row in found[:limit]], is_cut=len(found) > limit)


def _open(published: Path) -> duckdb.DuckDBPyConnection:
    if not published.is_file():
        raise NoPublication(f"there is no publication at {published}", fix="run `kstock-batch score` first")
    con = duckdb.connect(":memory:")
    quoted = str(published).replace("'", "''")
    try:
        con.execute(f"ATTACH '{quoted}' AS published (READ_ONLY)")
    except duckdb.Error as error:
        con.close()
        raise NoPublication(
            f"{published} cannot be opened: {str(error).splitlines()[0]}",
            fix="run `kstock-batch score` to publish anew",
        ) from error
    con.execute("USE published")
    con.execute("SET enable_external_access = false")
    con.execute("SET lock_configuration = true")
    return con
