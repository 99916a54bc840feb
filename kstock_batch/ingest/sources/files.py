"""A folder of parquet files as a source: a mapping file says which column goes where.

Reading changes no store. What comes out has exactly the columns of its table, plus source and available_at.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Self

import polars as pl

from kstock_batch.errors import ConfigError, SourceError
from kstock_batch.market.sessions import KST_OFFSET
from kstock_batch.market.tables import TABLES, UNKNOWN_SINCE, ColumnType, Table

PANEL_MAPPING = Path(__file__).with_name("panel.toml")

_DTYPES: dict[ColumnType, pl.DataType] = {
    "text": pl.String(),
    "number": pl.Float64(),
    "count": pl.Int64(),
    "date": pl.Date(),
    "flag": pl.Boolean(),
}


@dataclass(frozen=True)
class Availability:
    """When a row may first be used: ``plus_days`` after the date in ``column``, at ``at`` in Seoul."""

    column: str
    at: str
    plus_days: int = 0

    def instant(self) -> pl.Expr:
        """Return the UTC instant of each row."""
        offset = datetime.combine(date.min, time.fromisoformat(self.at)) - datetime.combine(date.min, time.min)
        return pl.col(self.column).cast(pl.Datetime("us")) + timedelta(days=self.plus_days) + offset - KST_OFFSET


@dataclass(frozen=True)
class Dataset:
    """One file to one table."""

    file: tuple[str, ...]
    table: Table
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    available: Availability | None = None
    only: Mapping[str, list[str]] = field(default_factory=dict)
    replace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    required: bool = False

    @classmethod
    def of(cls, given: Mapping[str, Any], mapping: Path) -> Self:
        """Return the dataset described by one [[dataset]] of the mapping file."""
        try:
            table = TABLES[given["table"]]
            known = {name: given[name] for name in ("only", "replace", "required") if name in given}
            available = Availability(**given["available"]) if "available" in given else None
            made = cls(tuple(given["file"]), table, given["columns"], given["constants"], available, **known)
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"{mapping}: a [[dataset]] is not usable because of {error}",
                fix=f"give it file, table (one of {sorted(TABLES)}), columns, constants",
            ) from error
        if unknown := sorted((made.columns.keys() | made.constants.keys()) - table.columns.keys() - {"source"}):
            raise ConfigError(f"{mapping}: {table.name} has no columns {unknown}", fix=f"use {sorted(table.columns)}")
        return made

    def find(self, folder: Path) -> Path | None:
        """Return the first of the dataset's files that exists."""
        found = (path for name in self.file if (path := folder / name).is_file())
        return next(found, None)

    def read(self, path: Path) -> pl.DataFrame:
        """Return the file's rows with the table's columns and types, plus source and available_at."""
        schema = _schema(path)
        self._check(schema, path)
        taken = {ours: pl.col(theirs) for ours, theirs in self.columns.items()}
        taken |= {ours: pl.col(ours).replace(dict(values)) for ours, values in self.replace.items()}
        fixed = {ours: pl.lit(value) for ours, value in self.constants.items()}
        known_at = self.available.instant() if self.available else pl.lit(UNKNOWN_SINCE, dtype=pl.Datetime("us"))
        rows = pl.scan_parquet(path)
        for theirs, values in self.only.items():
            rows = rows.filter(pl.col(theirs).is_in(values))
        rows = rows.with_columns(known_at.alias("available_at")).select(
            *(self._typed(name, taken, fixed) for name in self.table.columns),
            fixed["source"].alias("source"),
            "available_at",
        )
        try:
            return rows.with_columns(**self.table.derived).collect()
        except pl.exceptions.PolarsError as error:
            raise _unreadable(path, error) from error

    def _typed(self, name: str, taken: Mapping[str, pl.Expr], fixed: Mapping[str, pl.Expr]) -> pl.Expr:
        value = taken.get(name, fixed.get(name, pl.lit(None)))
        return value.cast(_DTYPES[self.table.columns[name]], strict=True).alias(name)

    def _check(self, schema: pl.Schema, path: Path) -> None:
        """Raise if a mapped column is absent or holds another kind of value than the table wants."""
        wanted = {**self.columns, **({"available_at": self.available.column} if self.available else {})}
        if absent := sorted(set(wanted.values()) - schema.keys()):
            raise SourceError(
                f"{path} lacks the columns {absent}; it has {sorted(schema)}",
                fix="restore the columns, or name the file's own in a mapping file given with --mapping",
            )
        for ours, theirs in wanted.items():
            kind = self.table.columns.get(ours, "date")
            if not _fits(schema[theirs], kind):
                raise SourceError(
                    f"{path}: column {theirs} has type {schema[theirs]}, {self.table.name}.{ours} needs {kind}",
                    fix="write the column with that type"
                    + (" (tickers are six-character texts such as '005930')" if ours == "ticker" else ""),
                )


def load_mapping(path: Path = PANEL_MAPPING) -> tuple[Dataset, ...]:
    """Return the datasets of a mapping file."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))["dataset"]
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise ConfigError(f"{path} is no mapping file: {error}", fix=f"start from a copy of {PANEL_MAPPING}") from error
    return tuple(Dataset.of(entry, path) for entry in given)


def locate(folder: Path, mapping: tuple[Dataset, ...]) -> list[tuple[Dataset, Path]]:
    """Return each dataset that the folder holds with its file; missing or empty folders and required files raise."""
    if not folder.is_dir():
        raise SourceError(
            f"the source folder {folder} does not exist", fix="check the path; it is a folder of parquet files"
        )
    found = [(dataset, path) for dataset in mapping if (path := dataset.find(folder))]
    if not found:
        names = sorted({name for dataset in mapping for name in dataset.file})
        raise SourceError(f"the source folder {folder} holds none of {names}", fix="check the path, or pass --mapping")
    here = {dataset.file for dataset, _ in found}
    if lacking := sorted({" or ".join(d.file) for d in mapping if d.required and d.file not in here}):
        raise SourceError(
            f"the source folder {folder} lacks {lacking}", fix="add the file, or drop `required` in a --mapping"
        )
    return found


def _schema(path: Path) -> pl.Schema:
    try:
        return pl.scan_parquet(path).collect_schema() if path.stat().st_size else _empty(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from error


def _empty(path: Path) -> pl.Schema:
    raise OSError(f"{path.name} has 0 bytes")


def _unreadable(path: Path, error: Exception) -> SourceError:
    return SourceError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read as parquet: {str(error).splitlines()[0]}",
        fix="it is truncated or damaged: fetch or write it again",
    )


def _fits(dtype: pl.DataType, kind: ColumnType) -> bool:
    fits = {
        "text": dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum),
        "number": dtype.is_numeric(),
        "count": dtype.is_integer() or dtype.is_float(),
        "date": dtype == pl.Date or isinstance(dtype, pl.Datetime),
        "flag": dtype == pl.Boolean,
    }
    return dtype == pl.Null or fits[kind]
