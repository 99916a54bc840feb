"""Carried state: what each ticker's recursions stood at after a checkpoint, as rows of feature_state."""

from collections.abc import Sequence
from datetime import date

import duckdb
import numpy as np
import polars as pl

from kstock_batch.features.knowledge import BEFORE_ALL
from kstock_batch.features.matrix import REACH, Layout
from kstock_batch.features.prices import Series
from kstock_batch.features.technical import Carried, Recursions, as_columns
from kstock_batch.store.queries import Query

COLUMNS = tuple(as_columns(Carried.nothing(0)))


def read_carried(con: duckdb.DuckDBPyConnection, checkpoint: date, series: Series) -> Carried:
    """Return what each series goes on from; one that begins carries nothing."""
    stored = Query.load("features/state").frame(con, checkpoint=checkpoint)
    each = pl.DataFrame({"ticker": series.tickers, "begins": series.begins})
    rows = each.join(stored, on="ticker", how="left", validate="m:1", maintain_order="left")
    kept = rows.select(pl.when(~pl.col("begins")).then(name).cast(pl.Float64).alias(name) for name in COLUMNS)
    kept = kept.with_columns(pl.col("n_bars").fill_null(0.0))
    return Carried(*(column.fill_null(float("nan")).to_numpy() for column in kept.iter_columns()))


def state_rows(
    series: Series, layout: Layout, recursions: Recursions, carried: Carried, checkpoints: Sequence[date]
) -> pl.DataFrame:
    """Return feature_state's rows for each of the checkpoints: of every series that serves that session."""
    rows = (_state_at(series.frame, layout, recursions, carried, session) for session in checkpoints)
    return pl.concat(rows) if checkpoints else pl.DataFrame()


def _state_at(
    frame: pl.DataFrame, layout: Layout, recursions: Recursions, carried: Carried, session: date
) -> pl.DataFrame:
    newest = layout.newest((frame["session"] <= session).to_numpy())
    row = np.where(newest >= 0, layout.row[newest], -1)
    oldest = np.maximum(layout.begins, newest - REACH + 1)
    # With fewer bars than that everything is in reach, the sessions without a trade before the first of them too.
    has_more = pl.Series(newest - layout.begins + 1 >= REACH)
    after = recursions.after(np.maximum(row, REACH - 1), carried)
    serves = frame[layout.begins].select(
        "ticker",
        is_serving=(pl.col("serves_from") <= session) & (session < pl.col("serves_until")) & pl.Series(newest >= 0),
    )
    return (
        serves.with_columns(
            pl.lit(session).alias("session"),
            pl.when(has_more).then(frame["session"][oldest]).otherwise(BEFORE_ALL).alias("reach_from"),
            **{name: pl.Series(values).fill_nan(None) for name, values in as_columns(after).items()},
        )
        .filter("is_serving")
        .drop("is_serving")
    )
