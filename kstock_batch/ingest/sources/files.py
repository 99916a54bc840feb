"""A folder of parquet files as a source: a mapping file says which column goes where.

Reading changes no store. What comes out has exactly the columns of its table, plus source and available_at.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Self

import polars as pl

from kstock_batch.errors import ConfigError, SourceError
from kstock_batch.market.sessions import KST_OFFSET
from kstock_batch.market.tables import TABLES, UNKNOWN_SINCE, ColumnType, Table

PANEL_MAPPING = Path(__file__).with_name("panel.toml")

DTYPES: dict[ColumnType, pl.DataType] = {
    "text": pl.String(),
    "number": pl.Float64(),
    "count": pl.Int64(),
    "date": pl.Date(),
    "flag": pl.Boolean(),
}
# What polars raises for a file that is no whole parquet; its decoders panic on some damage.
DAMAGE = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError)


@dataclass(frozen=True)
class Availability:
    """When a row may first be used: ``plus_days`` after the date in ``column``, at ``at`` in Seoul."""

    column: str
    at: str
    plus_days: int = 0

    @property
    def _after_midnight(self) -> timedelta:
        return datetime.combine(date.min, time.fromisoformat(self.at)) - datetime.combine(date.min, time.min)

    def instant(self) -> pl.Expr:
        """Return the UTC instant of each row."""
        midnight = _day(pl.col(self.column)).cast(pl.Datetime("us"))
        return midnight + timedelta(days=self.plus_days) + self._after_midnight - KST_OFFSET

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return the availability a mapping file describes; what cannot be used is a ValueError."""
        try:
            made = cls(**given)
            usable = (
                isinstance(made.column, str) and type(made.plus_days) is int and made._after_midnight >= timedelta()
            )
        except (TypeError, ValueError):  # another key, or `at` is no time of day
            usable = False
        if not usable:
            shape = "{ column = a name, at = 'HH:MM' }, perhaps with plus_days = a whole number"
            raise ValueError(f"available = {dict(given)} is not {shape}")
        return made


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
    def of(cls, given: Any, mapping: Path) -> Self:
        """Return the dataset described by one [[dataset]] of the mapping file."""
        try:
            _require_shape(given)
            available = Availability.of(given["available"]) if "available" in given else None
            optional = {name: given[name] for name in ("only", "replace", "required") if name in given}
            table = TABLES[given["table"]]
            _require_columns(table, given["columns"], given["constants"], optional.get("replace", {}))
            return cls(tuple(given["file"]), table, given["columns"], given["constants"], available, **optional)
        except (TypeError, ValueError) as error:
            which = f"the [[dataset]] of {given.get('file')}" if isinstance(given, dict) else "a [[dataset]]"
            raise ConfigError(
                f"{mapping}: {which} cannot be used: {error}",
                fix=f"write it as the head of {PANEL_MAPPING} explains",
            ) from error

    def find(self, folder: Path) -> Path | None:
        """Return the first of the dataset's files that exists."""
        found = (path for name in self.file if (path := folder / name).is_file())
        return next(found, None)

    def read(self, path: Path) -> pl.DataFrame:
        """Return the file's rows with the table's columns and types, plus source and available_at."""
        schema = _schema(path)
        self._check(schema, path)
        taken = {ours: pl.col(theirs) for ours, theirs in self.columns.items()}
        taken |= {ours: taken[ours].replace(dict(values)) for ours, values in self.replace.items()}
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
        except DAMAGE as error:
            raise _unreadable(path, error) from error

    def _typed(self, name: str, taken: Mapping[str, pl.Expr], fixed: Mapping[str, pl.Expr]) -> pl.Expr:
        value, kind = taken.get(name, fixed.get(name, pl.lit(None))), self.table.columns[name]
        if kind == "date":
            return _day(value).alias(name)
        # A count that pandas made a float carries NaN for missing: null here, so that the rules can name it.
        return value.cast(DTYPES[kind], strict=kind != "count").alias(name)

    def _check(self, schema: pl.Schema, path: Path) -> None:
        """Raise if a mapped column is absent or holds another kind of value than the table wants."""
        wanted = {**self.columns, **({"available_at": self.available.column} if self.available else {})}
        if absent := sorted({*wanted.values(), *self.only} - schema.keys()):
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
        if not (isinstance(given, list) and given):
            raise ValueError("it describes no [[dataset]]")
    except KeyError as error:
        raise _no_mapping(path, "it describes no [[dataset]]") from error
    except (OSError, ValueError) as error:  # what is no TOML or no UTF-8 is a ValueError too
        raise _no_mapping(path, str(error)) from error
    return tuple(Dataset.of(entry, path) for entry in given)


def locate(folder: Path, mapping: tuple[Dataset, ...]) -> list[tuple[Dataset, Path]]:
    """Return each dataset that the folder holds with its file; missing or empty folders and required files raise."""
    if not folder.is_dir():
        what = f"{folder} is a file" if folder.exists() else f"the source folder {folder} does not exist"
        raise SourceError(what, fix="check the path; a source is a folder of parquet files")
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


def _day(value: pl.Expr) -> pl.Expr:
    """Return the calendar date; null where damage made it one that neither Python nor SQL can hold."""
    day = value.cast(pl.Date, strict=False)
    return pl.when(day.is_between(date(1, 1, 1), date(9999, 1, 1))).then(day)


def _no_mapping(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path} is no mapping file: {why}", fix=f"start from a copy of {PANEL_MAPPING}")


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _is_text_map(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_map_of(is_item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(is_item(item) for item in value.values())


_SHAPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "file": ("a list of names", _is_texts),
    "table": (f"one of {sorted(TABLES)}", lambda value: value in list(TABLES)),
    "columns": ("a table of names", _is_text_map),
    "constants": ("a table of texts", _is_text_map),
    "available": ("a table", lambda value: isinstance(value, dict)),
    "only": ("a table of lists of texts", _is_map_of(_is_texts)),
    "replace": ("a table of tables of texts", _is_map_of(_is_text_map)),
    "required": ("true or false", lambda value: isinstance(value, bool)),
}
_NEEDED = ("file", "table", "columns", "constants")


def _require_shape(given: Any) -> None:
    """Raise unless ``given`` is a table whose keys are known and hold the kind of value they should."""
    if not isinstance(given, dict):
        raise TypeError(f"{given!r} is no table")
    if unknown := sorted(given.keys() - _SHAPES.keys()):
        raise ValueError(f"unknown keys {unknown}")
    if absent := [name for name in _NEEDED if name not in given]:
        raise ValueError(f"it lacks {absent}")
    for name, value in given.items():
        shape, holds = _SHAPES[name]
        if not holds(value):
            raise ValueError(f"{name} = {value!r} is not {shape}")


def _require_columns(
    table: Table, columns: Mapping[str, str], constants: Mapping[str, str], replace: Mapping[str, Any]
) -> None:
    """Raise unless exactly columns of the table are filled, and all it cannot do without."""
    if unknown := sorted((columns.keys() | constants.keys() - {"source"}) - table.columns.keys()):
        raise ValueError(f"{table.name} has no columns {unknown}, it has {sorted(table.columns)}")
    if absent := sorted({*table.key, *table.required, "source"} - columns.keys() - constants.keys()):
        raise ValueError(f"nothing fills {absent} of {table.name}")
    if unmapped := sorted(replace.keys() - columns.keys()):
        raise ValueError(f"replace names {unmapped}, which columns does not map")


def _schema(path: Path) -> pl.Schema:
    try:
        return pl.scan_parquet(path).collect_schema() if path.stat().st_size else _empty(path)
    except DAMAGE as error:
        raise _unreadable(path, error) from error


def _empty(path: Path) -> pl.Schema:
    raise OSError(f"{path.name} has 0 bytes")


def _unreadable(path: Path, error: BaseException) -> SourceError:
    return SourceError(
        f"{path} ({path.stat().st_size:,} bytes) cannot be read as parquet: {str(error).splitlines()[0]}",
        fix="it is truncated or damaged: fetch or write it again",
    )


def _fits(dtype: pl.DataType, kind: ColumnType) -> bool:
    fits = {
        "text": dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum),
        "number": dtype.is_numeric(),
        "count": dtype.is_integer() or dtype.is_float(),
        # Which day an instant with a zone is depends on the zone: the source must say the day.
        "date": dtype == pl.Date or (isinstance(dtype, pl.Datetime) and dtype.time_zone is None),
        "flag": dtype == pl.Boolean,
    }
    return dtype == pl.Null or fits[kind]
