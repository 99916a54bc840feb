"""Price levels: what a raw price must be divided by to be in the level of the ticker's first bar.

A split multiplies every later price. Dividing by the product of all multiplications so far gives one series that no
later split changes; times the level of T it is what adjusted prices showed on T. Adjusted sources are one level.

The evidence, strongest first:

- stated: a source says so (raw_corporate_action);
- base_price: the exchange's change in percent is against the session's base price. Where that is not the close before,
  the ratio of the two is the multiplication (rights issues and stock dividends too);
- shares: where the source leaves the change out, or a session is missing between, a move beyond the daily limit that
  the number of shares outstanding explains.
"""

import duckdb
import polars as pl

from kstock_batch.features.knowledge import Block, Knowledge
from kstock_batch.features.sessions import read_sessions
from kstock_batch.store.queries import Query

SERIES = ("ticker", "serves_from")
DAILY_LIMIT = 0.305  # ±30 %, and a tick
SHARES_MATCH = 0.1  # by how much (log) a move may miss what the shares say
STALE_SESSIONS = 60  # rows further apart say nothing about each other

ACTIONS = pl.Schema(
    {"ticker": pl.String, "session": pl.Date, "factor": pl.Float64, "cumulative": pl.Float64, "evidence": pl.String}
)


def with_levels(
    con: duckdb.DuckDBPyConnection, rows: pl.DataFrame, block: Block, basis: str, knowledge: Knowledge
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return ``rows`` with prices in one level and ``level``, and the multiplications found in new sessions.

    ``rows``: the columns of features/bar plus serves_from and serves_until.
    """
    if basis != "raw":
        return rows.drop("change_pct", "shares_outstanding").with_columns(level=pl.lit(1.0)), ACTIONS.to_frame()
    sessions = read_sessions(con).drop("cutoff_at")
    stated = Query.load("features/corporate_action").frame(con, end=block.end, **knowledge.params)
    before = Query.load("features/price_action").frame(con, checkpoint=block.checkpoint)
    rows = with_factors(rows, sessions, stated)  # sorted as the next step needs it: a ticker may be several series
    rows = rows.join_asof(
        before.select("ticker", "session", carried="cumulative"),
        on="session", by="ticker", strategy="backward", check_sortedness=False,
    ).with_columns(pl.col("carried").fill_null(1.0))  # fmt: skip
    rows = _with_cumulative(rows.sort(*SERIES, "session"))
    actions = _last_vintage(rows).filter(pl.col("is_new") & pl.col("evidence").is_not_null())
    found = actions.select("ticker", "session", "factor", pl.col("level").alias("cumulative"), "evidence")
    one_level = (
        *(pl.col(name) / pl.col("level") for name in ("open", "high", "low", "close")),
        pl.col("volume") * pl.col("level"),
    )
    told = rows.drop("change_pct", "shares_outstanding", "factor", "evidence", "carried")
    return told.with_columns(*one_level), found


def with_factors(rows: pl.DataFrame, sessions: pl.DataFrame, stated: pl.DataFrame) -> pl.DataFrame:
    """Return ``rows`` with ``factor``, what the level was multiplied by since the row before, and its ``evidence``.

    Nothing is a factor of 1 and a null.
    """
    rows = rows.join(sessions, on="session", how="left", validate="m:1").sort("ticker", "session")
    # An action on a session without a row of its ticker shows in the next row.
    rows = rows.join_asof(
        stated.select("ticker", stated_on="session", stated="factor"),
        left_on="session", right_on="stated_on", by="ticker", strategy="backward", check_sortedness=False,
    )  # fmt: skip
    session_before = pl.col("session").shift().over(*SERIES, order_by="session")
    rows = rows.with_columns(stated=pl.when(pl.col("stated_on") > session_before).then("stated"))
    rows = rows.with_columns(
        pl.col("close").shift().over(*SERIES, order_by="session").alias("close_before"),
        pl.col("shares_outstanding").shift().over(*SERIES, order_by="session").alias("shares_before"),
        (pl.col("session_number") - pl.col("session_number").shift().over(*SERIES, order_by="session")).alias(
            "n_since"
        ),
    )
    rows = rows.with_columns(base_factor=_base_factor(), shares_factor=_shares_factor())
    chosen = (
        pl.when(pl.col("stated").is_not_null() & pl.col("close_before").is_not_null())
        .then(pl.struct(factor="stated", evidence=pl.lit("stated")))
        .when(pl.col("base_factor").is_not_null())
        .then(pl.struct(factor="base_factor", evidence=pl.lit("base_price")))
        .when(pl.col("shares_factor").is_not_null())
        .then(pl.struct(factor="shares_factor", evidence=pl.lit("shares")))
        .otherwise(pl.struct(factor=pl.lit(1.0), evidence=pl.lit(None, dtype=pl.String)))
    )
    rows = rows.with_columns(chosen.struct.unnest())
    seen = ("stated", "stated_on", "close_before", "shares_before", "n_since", "base_factor", "shares_factor")
    return rows.drop("session_number", *seen)


def _base_factor() -> pl.Expr:
    """Return base price / close before; null where the change is unknown, or as it is without a corporate action.

    The change is printed to two decimals, so it names an interval of base prices; prices are whole won.
    """
    lowest = pl.col("close") / (1 + (pl.col("change_pct") + 0.00501) / 100)
    highest = pl.col("close") / (1 + (pl.col("change_pct") - 0.00501) / 100)
    middle = (lowest + highest) / 2
    whole = middle.round()
    base = pl.when(whole.is_between(lowest, highest)).then(whole).otherwise(middle)
    before = pl.col("close_before")
    is_moved = (pl.col("n_since") == 1) & ~before.is_between(lowest, highest) & (base > 0)
    return pl.when(is_moved).then(base / before)


def _shares_factor() -> pl.Expr:
    """Return shares before / shares now where nothing but a split explains the move; null elsewhere."""
    says_nothing = pl.col("change_pct").is_null() | (pl.col("n_since") > 1)
    is_recent = pl.col("n_since") <= STALE_SESSIONS
    move = pl.col("close") / pl.col("close_before")
    split = pl.col("shares_before") / pl.col("shares_outstanding")
    is_beyond_limit = (move > 1 + DAILY_LIMIT) | (move < 1 - DAILY_LIMIT)
    # A limit move on top of the split is possible, so the prices only have to be near what the shares say.
    fits = (move / split).log().abs() <= pl.lit(DAILY_LIMIT) + SHARES_MATCH
    return pl.when(says_nothing & is_recent & is_beyond_limit & fits & ((split - 1).abs() > SHARES_MATCH)).then(split)


def _with_cumulative(rows: pl.DataFrame) -> pl.DataFrame:
    """Return ``rows`` with ``level``: the carried one up to the checkpoint, multiplied on through the new rows.

    The carried level is the product's first factor, so that going on from it gives the bits of one long product.
    """
    is_first_new = pl.col("is_new") & ~pl.col("is_new").shift(fill_value=False).over(*SERIES, order_by="session")
    # A series that begins anew begins at 1: what its ticker carried was found in prices that read otherwise now.
    has_old = (~pl.col("is_new")).any().over(*SERIES)
    carried = pl.when(has_old).then("carried").otherwise(1.0)
    step = pl.when(is_first_new).then(carried * pl.col("factor")).otherwise("factor")
    product = pl.when("is_new").then(step).otherwise(1.0).cum_prod().over(*SERIES, order_by="session")
    return rows.with_columns(level=pl.when("is_new").then(product).otherwise(carried))


def _last_vintage(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("serves_from") == pl.col("serves_from").max().over("ticker"))
