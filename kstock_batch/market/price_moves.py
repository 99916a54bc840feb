"""Rules on how a raw price moves from one session to the next, asked of rows that keep every other rule.

The exchange limits a price to ±30 % of the session's base price. Not on a stock's first days and not while it is being
liquidated (the seven sessions before a delisting, which come after a halt): a row is held to the limit only if its
stock traded on each of the N_FOLLOWED sessions before. The base price is the close before, or what a corporate action
makes of it; ex rights it falls, but it rises only over a halt.

What these rules make of the 322,525 official rows of 2021-2024: nothing is rejected. 209,438 of them follow
N_FOLLOWED traded sessions, 299,618 one; 24 honest ones go beyond 30 % (19 of liquidations, 5 first days).
"""

import polars as pl

from kstock_batch.market.tables import Rule

N_FOLLOWED = 8  # a liquidation has seven sessions
DAILY_LIMIT = 0.30
BASE_ROSE = 1.05  # base price over a close it cannot be above at all: what is left is a close that was wrong
BASE_FELL = 0.10  # eight new shares for each make a ninth; a split may go further, but comes after a halt
BEFORE = ("session_number", "close_before", "is_followed", "is_stated")

_C = pl.col
_HALF_PRINTED = 0.00501  # the change is printed to two decimals
_ROUNDING = 1e-9


def with_moves(rows: pl.DataFrame, traded: pl.DataFrame, sessions: pl.DataFrame, stated: pl.DataFrame) -> pl.DataFrame:
    """Return ``rows`` of raw_price with the columns BEFORE: what their stocks did on the sessions before.

    Parameters
    ----------
    traded : ticker, session, close of raw prices with a volume, stored ones and the rows' own, each once
    sessions : session, session_number of the calendar
    stated : ticker, session of corporate actions that a source states
    """
    traded = traded.join(sessions, on="session", how="inner", validate="m:1").sort("ticker", "session_number")
    first = _C("session_number").shift(N_FOLLOWED - 1).over("ticker", order_by="session_number")
    before = traded.select(
        "ticker",
        _C("session_number") + 1,
        _C("close").alias("close_before"),
        (_C("session_number") - first == N_FOLLOWED - 1).fill_null(False).alias("is_followed"),
    )
    stated = stated.select("ticker", "session", is_stated=pl.lit(True)).unique()
    return (
        rows.join(sessions, on="session", how="left", validate="m:1")
        .join(before, on=["ticker", "session_number"], how="left", validate="m:1")
        .join(stated, on=["ticker", "session"], how="left", validate="m:1")
    )


def move_rules() -> tuple[Rule, ...]:
    """Return the rules of rows ``with_moves``."""
    lowest, highest = base_range(_C("close"), _C("change_pct"))
    # Without the exchange's own change the base is unknown, but not above the close before.
    ceiling = pl.coalesce(highest, "close_before") * (1 + DAILY_LIMIT) + _ROUNDING
    floor = lowest * (1 - DAILY_LIMIT) - _ROUNDING
    is_beyond = (_C("high") > ceiling) | (_C("low") < floor)
    is_explained = _C("is_stated").is_not_null()
    moves = is_traded_raw() & ~is_explained
    return (
        Rule("beyond_the_daily_limit", moves & _C("is_followed") & is_beyond),
        Rule("base_price_above_a_traded_close", moves & (lowest > _C("close_before") * BASE_ROSE)),
        Rule("base_price_far_below_a_traded_close", moves & (highest < _C("close_before") * BASE_FELL)),
    )


def base_range(close: pl.Expr, change_pct: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """Return the lowest and the highest base price that give this close its printed change."""
    return (
        close / (1 + (change_pct + _HALF_PRINTED) / 100),
        close / (1 + (change_pct - _HALF_PRINTED) / 100),
    )


def is_traded_raw() -> pl.Expr:
    """Return whether a row of raw_price is the exchange's own of a stock that traded."""
    return (_C("price_basis") == "raw") & (_C("volume") > 0)
