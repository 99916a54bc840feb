"""Series of bars: each ticker's trading sessions in prices of one level, as known on the nights of a block.

A ticker is one series, unless its past came to read otherwise within the block: a corrected bar, or a source that
restated a split. Then the nights before that are one series and the nights from it on another, computed anew from the
first bar in the versions known then. So a correction changes no night that could not know it, and a backfill over it
gives what the nights gave.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import duckdb
import polars as pl

from kstock_batch.features.knowledge import Block, Knowledge
from kstock_batch.features.price_level import with_levels
from kstock_batch.store.queries import Query

DAY_AFTER_ALL = date(9999, 1, 1)


@dataclass(frozen=True)
class Series:
    """Bars of all series of a block.

    Attributes
    ----------
    frame : bars sorted by (series, session); series (0 … S - 1), ticker, session, cutoff_at, is_new,
        serves_from, serves_until (the sessions whose rows this series gives, the last excluded),
        open, high, low, close (in the level of the first bar), volume (shares of that level),
        level (won of the session = price x level)
    closes : series, session, price of every row, those of sessions without a trade too
    tickers : (S,) the ticker of each series
    begins : whether it begins from its first bar, by series
    actions : what raw prices were found to be multiplied by in the block's new sessions, to be stored
    begun_anew : tickers whose past reads otherwise from some night of the block on
    """

    frame: pl.DataFrame
    closes: pl.DataFrame
    tickers: pl.Series
    begins: pl.Series
    actions: pl.DataFrame
    begun_anew: list[str]


def is_served(day: str) -> pl.Expr:
    """Return whether a row's series gives the features of the session in column ``day``."""
    return (pl.col(day) >= pl.col("serves_from")) & (pl.col(day) < pl.col("serves_until"))


def read_series(con: duckdb.DuckDBPyConnection, block: Block, basis: str, knowledge: Knowledge) -> Series:
    """Return the series that the nights of ``block`` are computed from."""
    vintages = _vintages(con, block, basis, knowledge)
    anew = vintages.filter(pl.col("serves_from") <= block.start)["ticker"]
    going_on = Query.load("features/bar").frame(
        con,
        basis=basis,
        checkpoint=block.checkpoint,
        settled_at=block.starts_at,
        end=block.end,
        begun_anew=anew.to_list(),
        **knowledge.params,
    )
    going_on = going_on.with_columns(serves_from=pl.lit(block.start), serves_until=pl.lit(DAY_AFTER_ALL))
    if not vintages.is_empty():
        going_on = _until_first_event(going_on, vintages)
    frame = pl.concat([going_on, *_begun_anew(con, vintages, basis, knowledge, going_on.columns)])
    frame, actions = with_levels(con, frame, block, basis, knowledge)
    return _numbered(frame, actions, vintages)


def _vintages(con: duckdb.DuckDBPyConnection, block: Block, basis: str, knowledge: Knowledge) -> pl.DataFrame:
    """Return ticker, serves_from, serves_until (excluded): the corrected pasts that nights of the block read."""
    later = Query.load("features/price_event").frame(
        con, basis=basis, checkpoint=block.checkpoint, end=DAY_AFTER_ALL, **knowledge.params
    )
    events = later.filter(pl.col("known_from") <= block.end)
    if basis == "raw":
        # The actions stored for these tickers may have been found in prices as they read later than the checkpoint.
        begun = later.select("ticker", known_from=pl.lit(block.start))
        events = pl.concat([events, begun]).unique(maintain_order=True)
    until = pl.col("known_from").shift().over("ticker", order_by="known_from", descending=True)  # the next correction
    return events.select(
        "ticker", pl.col("known_from").alias("serves_from"), until.fill_null(DAY_AFTER_ALL).alias("serves_until")
    ).filter(pl.col("serves_until") > block.start)


def _until_first_event(going_on: pl.DataFrame, vintages: pl.DataFrame) -> pl.DataFrame:
    first = vintages.group_by("ticker").agg(first_event=pl.col("serves_from").min())
    return (
        going_on.join(first, on="ticker", how="left", validate="m:1", maintain_order="left")
        .with_columns(serves_until=pl.col("first_event").fill_null(DAY_AFTER_ALL))
        .filter(pl.col("session") < pl.col("serves_until"))
        .drop("first_event")
    )


def _begun_anew(
    con: duckdb.DuckDBPyConnection, vintages: pl.DataFrame, basis: str, knowledge: Knowledge, columns: list[str]
) -> Iterator[pl.DataFrame]:
    if vintages.is_empty():
        return
    bars = Query.load("features/bar_anew").frame(
        con,
        basis=basis,
        tickers=vintages["ticker"].to_list(),
        known_from=vintages["serves_from"].to_list(),
        until=vintages["serves_until"].to_list(),
        **knowledge.params,
    )
    yield (
        bars.rename({"known_from": "serves_from"})
        .join(vintages, on=["ticker", "serves_from"], how="left", validate="m:1", maintain_order="left")
        .filter(pl.col("session") < pl.col("serves_until"))
        .select(columns)
    )


def _numbered(rows: pl.DataFrame, actions: pl.DataFrame, vintages: pl.DataFrame) -> Series:
    if not vintages.is_empty():
        rows = rows.sort("ticker", "serves_from", "session")
    own = pl.struct("ticker", "serves_from") if not vintages.is_empty() else pl.col("ticker")
    rows = _with_series(rows, own)
    has_bar = rows.filter(pl.col("volume") > 0)["series"].unique()
    if len(has_bar) < rows["series"].n_unique():  # some never traded
        rows = _with_series(rows.filter(pl.col("series").is_in(has_bar.implode())), own)
    bars = rows.filter(pl.col("volume") > 0)
    begins = bars.filter(pl.col("series") != pl.col("series").shift(fill_value=-1))
    closes = rows.select("series", "session", price="close")
    return Series(bars, closes, begins["ticker"], begins["is_new"], actions, vintages["ticker"].unique().to_list())


def _with_series(rows: pl.DataFrame, own: pl.Expr) -> pl.DataFrame:
    return rows.with_columns(series=own.rle_id().cast(pl.Int64))
