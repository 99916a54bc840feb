"""Whether two sources say the same: columns that sources round or count differently have a tolerance."""

from dataclasses import dataclass

import polars as pl

from kstock_batch.market.tables import Table


@dataclass(frozen=True)
class Tolerance:
    """How far two sources may be apart: ``share`` of the larger value, or ``by`` in the column's own unit."""

    share: float = 0.0
    by: float = 0.0


EXACT = Tolerance()
# Prices are whole won, and every source prints the exchange's own. What is traded after hours is still added to volume
# and value in the evening. Ratios are printed with two decimals, and sources print won per share as whole ones.
TOLERANCES: dict[str, dict[str, Tolerance]] = {
    "raw_price": {
        **dict.fromkeys(("open", "high", "low", "close"), Tolerance(by=0.5)),
        **dict.fromkeys(("volume", "traded_value"), Tolerance(share=0.001)),
        "change_pct": Tolerance(by=0.0101),
        "shares_outstanding": EXACT,
    },
    "raw_market_cap": {"market_cap": Tolerance(share=0.001), "shares_outstanding": EXACT},
    "raw_valuation": {
        **dict.fromkeys(("per", "pbr"), Tolerance(share=0.005, by=0.0101)),
        **dict.fromkeys(("eps", "bps"), Tolerance(share=0.001, by=1.0)),
    },
    "raw_flow": {
        **dict.fromkeys(("foreign_net", "institution_net"), Tolerance(share=0.001, by=1.0)),
        "foreign_holding_pct": Tolerance(by=0.0101),
    },
    "raw_short_balance": {"short_balance": EXACT, "short_balance_pct": Tolerance(by=0.0101)},
    # One fixes the dollar at noon in New York, the other takes the last quote.
    "raw_macro": {"close": Tolerance(share=0.01)},
}


def compared_columns(table: Table) -> list[str]:
    """Return the columns of a stock's session of which two sources should say the same number."""
    return list(TOLERANCES.get(table.name, {})) if table.on_session and "ticker" in table.columns else []


def is_beyond(table: Table, column: str, other: str) -> pl.Expr:
    """Return whether ``column`` and the column ``other`` both have a value, and those are too far apart."""
    allowed = TOLERANCES[table.name][column]
    ours, theirs = pl.col(column).cast(pl.Float64), pl.col(other).cast(pl.Float64)
    limit = pl.max_horizontal(pl.lit(allowed.by), allowed.share * pl.max_horizontal(ours.abs(), theirs.abs()))
    return ((ours - theirs).abs() > limit).fill_null(False)


def is_other(table: Table, column: str, other: str) -> pl.Expr:
    """Return whether the two say something else, as far as tolerances go; a value against none is something else."""
    known = pl.col(column).is_not_null() & pl.col(other).is_not_null()
    differs = pl.col(column).ne_missing(pl.col(other))
    if column not in TOLERANCES.get(table.name, {}):
        return differs
    return pl.when(known).then(is_beyond(table, column, other)).otherwise(differs)
