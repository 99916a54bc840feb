"""Two tables compared bit by bit: floats by their bytes, so that neither a rounding nor the sign of a zero passes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

EMPTY = pl.DataFrame(schema={"column": pl.String, "there": pl.String, "rebuilt": pl.String, "apart": pl.Float64})


@dataclass(frozen=True)
class Comparison:
    """What is there, beside what was rebuilt.

    Attributes
    ----------
    n_rows : rows that are there
    cells : the key, column, there, rebuilt (as text, every digit), apart (of numbers): one row a cell that differs
    only_there, only_rebuilt : keys of one side alone; a key that is there twice is alone the second time
    """

    n_rows: int
    cells: pl.DataFrame = field(default_factory=lambda: EMPTY)
    only_there: pl.DataFrame = field(default_factory=pl.DataFrame)
    only_rebuilt: pl.DataFrame = field(default_factory=pl.DataFrame)

    @classmethod
    def of(
        cls, there: pl.DataFrame, rebuilt: pl.DataFrame, *, key: Sequence[str], columns: Sequence[str]
    ) -> "Comparison":
        """Compare ``columns`` of the rows that have one ``key``; ``rebuilt`` has each key once."""
        first = there.unique(key, keep="first", maintain_order=True)
        again = there.select(key).filter(pl.struct(key).is_duplicated() & ~pl.struct(key).is_first_distinct())
        both = first.join(rebuilt, on=key, how="inner", suffix=" rebuilt", validate="1:1", maintain_order="left")
        cells = [_differing(both, key, name) for name in columns]
        return cls(
            there.height,
            pl.concat(cells).sort(key, maintain_order=True),
            pl.concat([first.join(rebuilt, on=key, how="anti").select(key), again]),
            rebuilt.join(first, on=key, how="anti").select(key),
        )

    @property
    def is_identical(self) -> bool:
        """Whether both sides have the same rows and the same bits."""
        return self.cells.is_empty() and self.only_there.is_empty() and self.only_rebuilt.is_empty()

    @property
    def columns(self) -> dict[str, int]:
        """Return how many cells of each column differ, most first."""
        counts = self.cells["column"].value_counts().sort("count", "column", descending=[True, False])
        return dict(counts.rows())

    @property
    def tickers(self) -> list[str]:
        """Return the tickers of which anything differs."""
        parts = [part["ticker"] for part in (self.cells, self.only_there, self.only_rebuilt) if not part.is_empty()]
        return sorted(set(pl.concat(parts).to_list())) if parts else []

    @property
    def told(self) -> str:
        """Return in words where the two sides differ."""
        parts = []
        if not self.cells.is_empty():
            parts.append(f"{some(list(self.columns))} of {some(_names(self.cells))}")
        for rows, what in ((self.only_there, "too many"), (self.only_rebuilt, "missing")):
            if not rows.is_empty():
                parts.append(f"{rows.height:,} rows {what} ({some(_names(rows))})")
        return "; ".join(parts)

    def n_alike(self, columns: Sequence[str]) -> int:
        """Return how many rows have the same bits in all of ``columns``."""
        differing = self.cells.filter(pl.col("column").is_in(columns))
        n_differing = differing["ticker"].n_unique() if not differing.is_empty() else 0
        return self.n_rows - self.only_there.height - n_differing

    def farthest(self, columns: Sequence[str]) -> float:
        """Return how far apart the numbers of ``columns`` are at most; a number beside none is infinitely far."""
        numbers = self.cells.filter(pl.col("column").is_in(columns))["apart"]
        return float("inf") if numbers.null_count() or self.only_there.height else float(numbers.max() or 0.0)  # type: ignore[arg-type]


def some(names: Sequence[str], n: int = 5) -> str:
    """Return the first names, and how many there are besides."""
    more = f" and {len(names) - n:,} more" if len(names) > n else ""
    return f"{', '.join(names[:n])}{more}"


def _names(rows: pl.DataFrame) -> list[str]:
    return rows["ticker"].unique().sort().to_list()


def _differing(both: pl.DataFrame, key: Sequence[str], name: str) -> pl.DataFrame:
    """Return the cells of one column that differ."""
    there, rebuilt = both[name], both[f"{name} rebuilt"]
    is_number = there.dtype.is_numeric() and rebuilt.dtype.is_numeric()
    apart = (there.cast(pl.Float64) - rebuilt.cast(pl.Float64)).abs() if is_number else None
    return both.select(
        *key,
        column=pl.lit(name),
        there=there.cast(pl.String),
        rebuilt=rebuilt.cast(pl.String),
        apart=pl.lit(None, dtype=pl.Float64) if apart is None else apart,
    ).filter(~_same_bits(there, rebuilt))


def _same_bits(there: pl.Series, rebuilt: pl.Series) -> pl.Series:
    if there.dtype != rebuilt.dtype:
        return pl.repeat(False, len(there), eager=True)
    if not there.dtype.is_float():
        return there.eq_missing(rebuilt)
    same = _bytes(there) == _bytes(rebuilt)
    return pl.Series(same) & (there.is_null() == rebuilt.is_null())


def _bytes(numbers: pl.Series) -> NDArray[np.integer[Any]]:
    """Return floats as the integers that have the same bytes; null as zero."""
    values = np.ascontiguousarray(numbers.fill_null(0.0).to_numpy())
    return values.view(np.int64 if values.itemsize == 8 else np.int32)
