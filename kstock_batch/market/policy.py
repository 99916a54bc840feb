"""The policy calendar: announced government measures that favour sectors or KOSDAQ, as points 0 … 20."""

from dataclasses import dataclass, field
from datetime import date, datetime

import polars as pl

from kstock_batch.market.sectors import SECTOR_CODES

MAX_BONUS = 20


@dataclass(frozen=True)
class PolicyEntry:
    """One measure: its points count on sessions in [valid_from, valid_to], and only once it was announced (UTC)."""

    announced_at: datetime
    valid_from: date
    valid_to: date
    for_all: int = 0
    for_kosdaq: int = 0
    by_sector: dict[str, int] = field(default_factory=dict)


# The 2026 calendar in closed form: measures for everyone, for the value-up sectors and for KOSDAQ, and the points
# of the year's leading sectors. Its parts share a year and the morning on which the year's measures took effect,
# the latest day on which any of them can have become known.
_YEAR_2026 = (datetime(2026, 1, 1), date(2026, 1, 2), date(2026, 12, 31))
CALENDAR: tuple[PolicyEntry, ...] = (
    PolicyEntry(*_YEAR_2026, for_all=5, for_kosdaq=5, by_sector={"금융": 10, "지주사": 10, "자동차": 10, "보험": 10}),
    PolicyEntry(*_YEAR_2026, by_sector={"반도체": 5, "헬스케어": 5, "금융": 5, "자동차": 2}),
)


def policy_bonus(calendar: tuple[PolicyEntry, ...] = CALENDAR) -> pl.Expr:
    """Return the points of a row from its ``as_of``, ``cutoff_at``, ``market`` and ``sector_encoded``."""
    return pl.sum_horizontal(pl.lit(0), *(_points(entry) for entry in calendar)).clip(0, MAX_BONUS)


def _points(entry: PolicyEntry) -> pl.Expr:
    sector = pl.col("sector_encoded").replace_strict(
        {SECTOR_CODES[name]: points for name, points in entry.by_sector.items()}, default=0, return_dtype=pl.Int32
    )
    kosdaq = pl.when(pl.col("market") == "KOSDAQ").then(entry.for_kosdaq).otherwise(0)
    applies = pl.col("as_of").is_between(entry.valid_from, entry.valid_to) & (pl.col("cutoff_at") >= entry.announced_at)
    return pl.when(applies).then(entry.for_all + kosdaq + sector).otherwise(0)
