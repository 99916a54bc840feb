"""Statements under sql/: loaded by name, their headers checked against their text."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from kstock_batch.errors import SqlContractError

_HEADER = re.compile(r"^-- (what|grain|reads|params): *(.*)$", re.MULTILINE)
_PARAM = re.compile(r"\$([a-z_][a-z0-9_]*)")
_COMMENT = re.compile(r"--.*")


def sql_folder() -> Path:
    """Return the folder of statements: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    shipped = package / "sql"
    return shipped if shipped.is_dir() else package.parent / "sql"


@dataclass(frozen=True)
class Query:
    """One statement, the parameters it declares, and what its header says of it.

    Attributes
    ----------
    grain : what a row is of, as the header writes it
    declared : the parameters in the header's order, which is a macro's order of arguments
    """

    name: str
    text: str
    params: frozenset[str]
    what: str
    grain: str
    reads: tuple[str, ...]
    declared: tuple[str, ...]

    @classmethod
    @cache
    def load(cls, name: str) -> "Query":
        """Return the statement ``sql/<name>.sql``, whose ``-- params:`` line must list exactly the $names it uses."""
        text = (sql_folder() / f"{name}.sql").read_text(encoding="utf-8")
        header = dict(_HEADER.findall(text))
        declared = tuple(header.get("params", "").split())
        used = set(_PARAM.findall(_COMMENT.sub("", text)))
        if set(declared) != used or not {"what", "grain", "reads"} <= header.keys():
            raise SqlContractError(
                f"sql/{name}.sql declares {sorted(header)} with params {sorted(declared)} but uses {sorted(used)}",
                fix="give it what/grain/reads/params lines; params lists exactly the $names of the statement",
            )
        reads = tuple(header["reads"].split())
        return cls(name, text, frozenset(used), header["what"], header["grain"], reads, declared)

    def frame(self, con: duckdb.DuckDBPyConnection, **params: Any) -> pl.DataFrame:
        """Return the statement's rows."""
        # DuckDB refuses parameters a statement does not use, and so do we, by name.
        if params.keys() != self.params:
            raise SqlContractError(
                f"sql/{self.name}.sql takes {sorted(self.params)} but was given {sorted(params)}",
                fix="pass exactly its declared params",
            )
        rows: pl.DataFrame = con.sql(self.text, params=params or None).pl()
        return rows

    def rows(self, con: duckdb.DuckDBPyConnection, **params: Any) -> list[dict[str, Any]]:
        """Return the statement's rows as dictionaries, for tables and JSON."""
        return self.frame(con, **params).to_dicts()
