"""The index and currency series of raw_macro: what the live sources call them, and since when a close counts."""

from dataclasses import dataclass
from datetime import time

import polars as pl

from kstock_batch.ingest.sources.rows import finished, seoul_instant
from kstock_batch.market.tables import TABLES


@dataclass(frozen=True)
class Series:
    """One series: its name in raw_macro and at the sources."""

    name: str
    fred: str
    yahoo: str


SERIES = (
    Series("VIX", "VIXCLS", "^VIX"),
    Series("SP500", "SP500", "^GSPC"),
    Series("NASDAQ", "NASDAQCOM", "^IXIC"),
    Series("US10Y", "DGS10", "^TNX"),
    Series("USDKRW", "DEXKOUS", "KRW=X"),
)

# A US session closes at 05:00 or 06:00 the next morning in Seoul. A day's exchange rate ends at midnight in London or
# is fixed at noon in New York: past midnight in Seoul, so it counts from the midnight after that.
_KNOWN_AT = (
    pl.when(pl.col("series") == "USDKRW")
    .then(seoul_instant("event_date", time(0), plus_days=2))
    .otherwise(seoul_instant("event_date", time(7), plus_days=1))
)
CLOSE_SCHEMA: dict[str, type[pl.DataType] | pl.DataType] = {
    "series": pl.String,
    "event_date": pl.Date,
    "close": pl.Float64,
}


def macro_rows(closes: pl.DataFrame, source: str) -> pl.DataFrame:
    """Return finished rows of raw_macro; a day without a close, such as a holiday, has none."""
    told = closes.filter(pl.col("close").is_not_null())
    return finished(told, TABLES["raw_macro"], source, _KNOWN_AT)
