"""Replay: features of past sessions from nothing but raw rows, as they could be known at some instant."""

from dataclasses import dataclass
from datetime import date

import duckdb
import polars as pl

from kstock_batch.errors import DataNotReady
from kstock_batch.features.block import Recipe, compute_block
from kstock_batch.features.knowledge import BEFORE_ALL, EVERYTHING, Block, Knowledge
from kstock_batch.features.sessions import cutoff_of
from kstock_batch.market.contract import FEATURE_NAMES
from kstock_batch.store.queries import Query

PLAIN = Recipe()
COMPARED = (*FEATURE_NAMES, "close", "is_scoreable")


@dataclass(frozen=True)
class Replay:
    """Past sessions computed anew, beside what is stored of them.

    Attributes
    ----------
    rows : feature_daily's rows as they could be known
    n_only_replayed, n_only_stored : rows of one side alone
    differing : cells that differ on rows of both, by column
    """

    start: date
    end: date
    rows: pl.DataFrame
    n_only_replayed: int
    n_only_stored: int
    differing: dict[str, int]

    @property
    def is_identical(self) -> bool:
        """Whether what is stored is what could be known, to the bit."""
        return not (self.n_only_replayed or self.n_only_stored or self.differing)


def compute_features(
    con: duckdb.DuckDBPyConnection,
    start: date,
    end: date,
    recipe: Recipe = PLAIN,
    knowledge: Knowledge = EVERYTHING,
) -> pl.DataFrame:
    """Return feature_daily's rows for as_of in [start, end], from the first bar on; no stored state is read."""
    block = Block(BEFORE_ALL, start, end, cutoff_of(con, start), cutoff_of(con, end))
    return compute_block(con, block, recipe, knowledge=knowledge).rows.sort("as_of", "ticker")


def newest_session_known(con: duckdb.DuckDBPyConnection, knowledge: Knowledge, basis: str) -> date:
    """Return the last session whose prices were known."""
    found: date | None = Query.load("features/newest_known").frame(con, basis=basis, **knowledge.params).row(0)[0]
    if found is None:
        asked = min(knowledge.known_at, knowledge.stored_at)
        raise DataNotReady(
            f"no {basis} price of the store was known at {asked:%Y-%m-%d %H:%M} UTC",
            fix="give a later instant, or ingest prices that reach back that far",
        )
    return found


def replay(con: duckdb.DuckDBPyConnection, start: date, end: date, recipe: Recipe, knowledge: Knowledge) -> Replay:
    """Compute [start, end] as it could be known and compare it with what is stored."""
    rows = compute_features(con, start, end, recipe, knowledge)
    stored = con.sql(
        f"SELECT ticker, as_of, {', '.join(COMPARED)} FROM feature_daily WHERE as_of BETWEEN $start AND $end",
        params={"start": start, "end": end},
    ).pl()
    both = rows.join(stored, on=["ticker", "as_of"], how="inner", suffix="_stored", validate="1:1")
    counts = both.select(pl.col(name).ne_missing(pl.col(f"{name}_stored")).sum() for name in COMPARED).row(0)
    return Replay(
        start,
        end,
        rows,
        rows.height - both.height,
        stored.height - both.height,
        {name: n for name, n in zip(COMPARED, counts, strict=True) if n},
    )
