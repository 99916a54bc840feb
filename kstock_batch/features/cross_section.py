"""Who is scoreable on a session, and where each name stands among those that are."""

import polars as pl

from kstock_batch.market.contract import MIN_BARS
from kstock_batch.market.sectors import SECTOR_CODES


def is_scoreable(include_preferred: bool) -> pl.Expr:
    """Return whether a row may be scored: enough and dense bars, and common stock of one of the two boards."""
    is_common = ~pl.col("is_spac") & (~pl.col("is_preferred") | pl.lit(include_preferred))
    on_board = pl.col("market").is_in(["KOSPI", "KOSDAQ"])
    enough = (pl.col("bars_available") >= MIN_BARS) & pl.col("is_window_dense")
    return (enough & on_board & is_common).fill_null(False).alias("is_scoreable")


def rs_percentile() -> pl.Expr:
    """Return 100·(N - rank)/(N - 1) of return_3m_pct among the session's scoreable names; high = strong."""
    among = pl.when("is_scoreable").then("return_3m_pct")
    n = among.count().over("as_of")
    rank = among.rank("min", descending=True).over("as_of")
    return pl.when(n >= 2).then(100 * (n - rank) / (n.cast(pl.Float64) - 1)).alias("rs_percentile")


def sector_code() -> pl.Expr:
    """Return the sector's code; 0 = unknown."""
    return pl.col("sector").replace_strict(SECTOR_CODES, default=0, return_dtype=pl.Int32).alias("sector_encoded")
