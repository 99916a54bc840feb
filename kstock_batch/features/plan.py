"""What is due: the sessions whose features are missing or may have changed, cut into blocks."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

import duckdb
import polars as pl

from kstock_batch.features.block import Recipe
from kstock_batch.features.knowledge import BEFORE_ALL, Block
from kstock_batch.features.sessions import price_range, read_sessions
from kstock_batch.market.contract import HORIZON, LABEL_RISE, MAX_WINDOW_SPAN, MIN_BARS, fingerprint
from kstock_batch.market.policy import CALENDAR
from kstock_batch.market.sectors import SECTOR_CODES, SECTOR_MAP_VERSION
from kstock_batch.market.sessions import CUTOFF
from kstock_batch.store.queries import sql_folder

# Rows of 50 sessions lie together in feature_daily, by ticker: one session is then read as fast as one ticker's years.
CLUSTER = 50
# A block reads a year of bars before its first: longer blocks read less twice, shorter ones lose less to a kill.
BLOCK = 10 * CLUSTER
KEPT_NIGHTS = 10  # whose state is kept: a correction of last week goes on from there

# What decides a value. A change of the other modules and statements of these rooms recomputes nothing.
DEFINING = (
    *("block", "cross_section", "flows", "fundamental", "knowledge", "labels", "market_wide", "matrix", "price_level"),
    *("prices", "state", "technical"),
)
DEFINING_STATEMENTS = (
    *("features/bar", "features/bar_anew", "features/corporate_action", "features/filing_known", "features/flow"),
    *(
        "features/listing",
        "features/market_cap",
        "features/market_wide",
        "features/price_action",
        "features/price_event",
    ),
    *("features/session", "features/state", "features/valuation", "labels/label_5d"),
)


@dataclass(frozen=True)
class Due:
    """What has to be computed, oldest first; nothing where ``blocks`` is empty.

    Attributes
    ----------
    sessions : session, session_number, cutoff_at of the whole calendar
    digest : of the definitions in force, for the ledger
    first, newest : sessions with prices
    """

    blocks: list[Block]
    sessions: pl.DataFrame
    digest: str
    first: date
    newest: date

    def sessions_of(self, block: Block) -> pl.DataFrame:
        """Return the sessions of a block."""
        return self.sessions.filter(pl.col("session").is_between(block.start, block.end))

    def days_before_blocks(self) -> list[date]:
        """Return the sessions with prices that no block computes, oldest first."""
        end = self.blocks[0].start if self.blocks else self.newest + timedelta(days=1)
        held = (pl.col("session") >= self.first) & (pl.col("session") < end)
        return self.sessions.filter(held)["session"].to_list()

    def cluster_of(self, session: date) -> tuple[date, date]:
        """Return the first and last session of the 50 that ``session`` belongs to."""
        numbers = self.sessions["session_number"] // CLUSTER
        own = numbers.filter(self.sessions["session"] == session).item()
        days = self.sessions["session"].filter(numbers == own)
        return days[0], days[-1]

    def clustered(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows of feature_daily in the order they are to lie in."""
        cluster = self.sessions.select(as_of="session", cluster=pl.col("session_number") // CLUSTER)
        # They come by ticker and session, so bringing the clusters apart is all that is left to do.
        return rows.join(cluster, on="as_of", validate="m:1", maintain_order="left").sort(
            "cluster", maintain_order=True
        ).drop("cluster")  # fmt: skip

    def checkpoints(self, block: Block) -> list[date]:
        """Return the sessions after which state is kept: the last of each 50, and the block's own last."""
        return self.sessions_of(block).filter(_ends_cluster() | (pl.col("session") == block.end))["session"].to_list()

    def kept_checkpoints(self, block: Block) -> list[date]:
        """Return the checkpoints worth keeping once ``block`` is done: the last of each 50, and the newest nights."""
        past = self.sessions.filter(pl.col("session") <= block.end)
        recent = past["session"].tail(KEPT_NIGHTS)
        return past.filter(_ends_cluster() | pl.col("session").is_in(recent.implode()))["session"].to_list()


def _ends_cluster() -> pl.Expr:
    return pl.col("session_number") % CLUSTER == CLUSTER - 1


def read_due(con: duckdb.DuckDBPyConnection, recipe: Recipe) -> Due:
    """Return what is missing, of another definition, or marked as changed."""
    first, newest = price_range(con, recipe.price_basis)
    sessions, digest = read_sessions(con), definition_digest(recipe)
    days = sessions.filter(pl.col("session").is_between(first, newest))["session"].to_list()
    start = _due_from(con, days, digest)
    blocks = [] if start is None else list(blocks_of(con, sessions, [day for day in days if day >= start]))
    return Due(blocks, sessions, digest, first, newest)


def _due_from(con: duckdb.DuckDBPyConnection, days: list[date], digest: str) -> date | None:
    built = dict(con.execute("SELECT as_of, definition_digest FROM feature_session").fetchall())
    missing = next((day for day in days if built.get(day) != digest), None)
    marked = con.execute("SELECT min(from_date) FROM feature_due").fetchall()[0][0]
    due = min((day for day in (missing, marked) if day is not None), default=None)
    return None if due is None else next((day for day in days if day >= due), None)


def blocks_of(con: duckdb.DuckDBPyConnection, sessions: pl.DataFrame, days: list[date]) -> Iterator[Block]:
    """Yield blocks of at most BLOCK sessions that end where clusters end, each going on from the one before."""
    if not days:
        return
    due, start = sessions.filter(pl.col("session").is_between(days[0], days[-1])), days[0]
    found = con.execute("SELECT max(session) FROM feature_state WHERE session < $start", {"start": start}).fetchall()
    checkpoint = found[0][0] or BEFORE_ALL
    for _, group in groupby(due.iter_rows(), key=lambda row: row[1] // BLOCK):
        rows = list(group)
        (first, _, starts_at), (last, _, ends_at) = rows[0], rows[-1]
        yield Block(checkpoint, first, last, starts_at, ends_at)
        checkpoint = last


def definition_digest(recipe: Recipe) -> str:
    """Return a digest that changes with any text or constant that a stored feature or label depends on."""
    whole = hashlib.sha256(repr((fingerprint(), recipe, HORIZON, LABEL_RISE, MIN_BARS, CUTOFF)).encode())
    whole.update(repr((MAX_WINDOW_SPAN, SECTOR_MAP_VERSION, SECTOR_CODES, CALENDAR)).encode())
    room, sql = Path(__file__).parent, sql_folder()
    for path in (*(room / f"{name}.py" for name in DEFINING), room.parent / "market" / "policy.py"):
        whole.update(path.read_bytes())
    for name in DEFINING_STATEMENTS:
        whole.update((sql / f"{name}.sql").read_bytes())
    return whole.hexdigest()[:12]
