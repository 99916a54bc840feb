"""One block of sessions: raw rows and carried state → rows of feature_daily, and the state to go on from.

A night is a block of one session and a backfill is many blocks: one piece of code, so the two give the same bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.features.cross_section import is_scoreable, rs_percentile, sector_code
from kstock_batch.features.extra import Extras, with_extras
from kstock_batch.features.flows import flow_counts
from kstock_batch.features.fundamental import with_fundamentals
from kstock_batch.features.knowledge import EVERYTHING, Block, Knowledge
from kstock_batch.features.market_wide import read_market_wide
from kstock_batch.features.matrix import REACH, Layout, shifted
from kstock_batch.features.prices import is_served, read_series
from kstock_batch.features.sessions import read_sessions
from kstock_batch.features.state import read_carried, state_rows
from kstock_batch.features.technical import PRICE_LEVELS, Bars, Recursions, indicators
from kstock_batch.market.contract import FEATURE_NAMES, FEATURE_SET_VERSION, MAX_WINDOW_SPAN, WINDOW
from kstock_batch.market.policy import policy_bonus
from kstock_batch.store.queries import Query


@dataclass(frozen=True)
class Recipe:
    """The settings a feature's value depends on: which prices count, and who is scoreable."""

    price_basis: str = "adjusted"
    include_preferred: bool = False


@dataclass(frozen=True)
class Computed:
    """What a block came to: rows of feature_daily, of feature_state for its checkpoints, of price_action.

    ``begun_anew``: tickers whose stored actions its own replace.
    """

    rows: pl.DataFrame
    state: pl.DataFrame
    actions: pl.DataFrame
    begun_anew: list[str]


def compute_block(
    con: duckdb.DuckDBPyConnection,
    block: Block,
    recipe: Recipe,
    *,
    checkpoints: Sequence[date] = (),
    extras: Extras = (),
    knowledge: Knowledge = EVERYTHING,
) -> Computed:
    """Return feature_daily's rows for as_of in [start, end] of ``block``; what comes after ``end`` is never read.

    Rows come by ticker and session.
    """
    series = read_series(con, block, recipe.price_basis, knowledge)
    frame = series.frame
    layout = Layout.of(frame["series"].to_numpy(), frame["is_new"].to_numpy(), len(series.tickers))
    carried = read_carried(con, block.checkpoint, series)
    bars = Bars(*(layout.spread(frame[name]) for name in ("close", "high", "low", "volume")))
    recursions = Recursions.of(bars, carried)
    values: dict[str, NDArray[Any]] = {
        **indicators(bars, recursions, carried),
        **flow_counts(con, frame, layout, knowledge),
    }
    values["is_window_dense"] = _is_window_dense(con, frame, layout)
    values["bars_available"] = carried.n_bars + np.arange(1, bars.n_new + 1)[:, None]
    rows = _rows_wanted(frame, layout, values, block).with_columns(
        # Policy entries and ages are told by the instant up to which the night knew, too.
        pl.min_horizontal("cutoff_at", pl.lit(knowledge.known_at)).alias("cutoff_at")
    )
    rows = with_fundamentals(con, rows, series.closes, block, knowledge)
    rows = _finished(con, rows, block, recipe, knowledge)
    return Computed(
        with_extras(con, rows, series, block, extras, knowledge) if extras else rows,
        state_rows(series, layout, recursions, carried, checkpoints),
        series.actions,
        series.begun_anew,
    )


def _is_window_dense(con: duckdb.DuckDBPyConnection, frame: pl.DataFrame, layout: Layout) -> NDArray[np.bool_]:
    """Return (B - W, S): whether the last WINDOW bars span at most MAX_WINDOW_SPAN sessions."""
    sessions = read_sessions(con)
    number = frame["session"].replace_strict(sessions["session"], sessions["session_number"], return_dtype=pl.Int32)
    numbers, n_new = layout.spread(number), layout.n_rows - REACH
    return shifted(numbers, 0, n_new) - shifted(numbers, WINDOW - 1, n_new) + 1 <= MAX_WINDOW_SPAN


def _rows_wanted(frame: pl.DataFrame, layout: Layout, values: Mapping[str, NDArray[Any]], block: Block) -> pl.DataFrame:
    """Return the bars of [start, end] that their series serves, with their values; NaN becomes null."""
    computed = frame.filter("is_new").select(
        "series", "ticker", "cutoff_at", "level", "serves_from", "serves_until", as_of="session", price="close"
    )
    gathered = {name: pl.Series(name, layout.gather(matrix)) for name, matrix in values.items()}
    number = pl.col(*(name for name, column in gathered.items() if column.dtype.is_float()))
    wanted = pl.col("as_of").is_between(block.start, block.end) & is_served("as_of")
    return computed.with_columns(**gathered).filter(wanted).with_columns(number.fill_nan(None))


def _finished(
    con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, block: Block, recipe: Recipe, knowledge: Knowledge
) -> pl.DataFrame:
    """Return feature_daily's columns: what depends on other tickers, on the world and on the kind of name is added."""
    listing = Query.load("features/listing").frame(con, **knowledge.params)
    won = pl.col("price") * pl.col("level")
    n_null = pl.sum_horizontal(pl.col(name).is_null() for name in FEATURE_NAMES)
    in_won = (pl.col(name).cast(pl.Float64) * pl.col("level") for name in PRICE_LEVELS)
    return (
        rows.join_asof(
            listing, left_on="cutoff_at", right_on="available_at", by="ticker", strategy="backward",
            check_sortedness=False,
        )
        .join(read_market_wide(con, block, knowledge), on="as_of", how="left", validate="m:1", maintain_order="left")
        .with_columns(*in_won, is_scoreable(recipe.include_preferred), sector_code(), close=won)
        .with_columns(rs_percentile(), policy_bonus().alias("policy_bonus"))
        .select(
            "ticker",
            "as_of",
            *(pl.col(name).cast(pl.Float32) for name in FEATURE_NAMES),
            pl.col("close").cast(pl.Float32),
            pl.col("bars_available").cast(pl.Int32),
            n_null.cast(pl.UInt8).alias("null_feature_count"),
            "is_scoreable",
            pl.lit(FEATURE_SET_VERSION, dtype=pl.UInt16).alias("feature_set_version"),
        )
    )  # fmt: skip
