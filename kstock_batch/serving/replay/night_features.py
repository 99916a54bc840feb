"""The features of a past night: as they are stored, and as the raw rows give them that were held when it scored."""

from dataclasses import dataclass
from datetime import date, datetime

import duckdb
import polars as pl

from kstock_batch.errors import DataNotReady
from kstock_batch.features.block import Recipe
from kstock_batch.features.knowledge import Knowledge
from kstock_batch.features.plan import definition_digest
from kstock_batch.features.replay import COMPARED, compute_features
from kstock_batch.features.sessions import cutoff_of, read_sessions
from kstock_batch.market.tables import TABLES
from kstock_batch.serving.night.session_windows import SessionWindows, first_session
from kstock_batch.serving.replay.bits import Comparison, some
from kstock_batch.store.queries import Query

KEY = ("ticker", "as_of")
_BUILDS = "SELECT definition_digest, run_id, built_at FROM feature_session WHERE as_of BETWEEN $start AND $end"


@dataclass(frozen=True)
class LateRows:
    """Rows of a raw table that count for the night, but came or were retracted only after it had been scored."""

    table: str
    n_came: int
    n_retracted: int
    tickers: tuple[str, ...]

    def __str__(self) -> str:
        """Return them in words."""
        parts = [f"{n:,} {what}" for n, what in ((self.n_came, "came"), (self.n_retracted, "retracted")) if n]
        return f"{self.table}: {' and '.join(parts)}{f' ({some(self.tickers)})' if self.tickers else ''}"


@dataclass(frozen=True)
class NightFeatures:
    """All rows that a session's windows reach.

    Attributes
    ----------
    rebuilt : from the raw rows held at the score, in the versions that each of the nights knew
    stored : as they are in the store now
    against_stored : stored beside rebuilt
    last_build : when the last of the stored ones were computed, and by which run; None = none is stored
    is_built_since : whether that was after the score
    is_explained : whether raw rows give the stored ones: those held at the score or at that build, or a build is due
    definition_digest : of the rebuilt ones
    is_defined_otherwise : whether stored ones were computed by another program version, or under other settings
    late : raw rows that would make the night another one, were it scored now
    """

    rebuilt: pl.DataFrame
    stored: pl.DataFrame
    against_stored: Comparison
    last_build: str | None
    is_built_since: bool
    is_explained: bool
    definition_digest: str
    is_defined_otherwise: bool
    late: tuple[LateRows, ...]

    @classmethod
    def read(cls, con: duckdb.DuckDBPyConnection, recipe: Recipe, as_of: date, scored_at: datetime) -> "NightFeatures":
        """Return the features of the night that was scored at ``scored_at``."""
        start = first_session(con, as_of)
        stored = Query.load("serve/night_bar").frame(con, start=start, end=as_of)
        rebuilt = _as_held(con, recipe, start, as_of, scored_at)
        against = Comparison.of(stored, rebuilt, key=KEY, columns=COMPARED)
        built, digest = _builds(con, start, as_of), definition_digest(recipe)
        last = None if built.is_empty() else built.row(-1, named=True)
        is_since = last is not None and last["built_at"] > scored_at
        is_explained = against.is_identical or _is_due(con, as_of)
        if last is not None and is_since and not is_explained:
            then = _as_held(con, recipe, start, as_of, last["built_at"])
            is_explained = Comparison.of(stored, then, key=KEY, columns=COMPARED).is_identical
        return cls(
            rebuilt=rebuilt,
            stored=stored,
            against_stored=against,
            last_build=None if last is None else f"{last['built_at']:%Y-%m-%d %H:%M} UTC by run {last['run_id']}",
            is_built_since=is_since,
            is_explained=is_explained,
            definition_digest=digest,
            is_defined_otherwise=bool(set(built["definition_digest"]) - {digest}),
            late=tuple(_late_rows(con, as_of, scored_at)),
        )


def windows_of(rows: pl.DataFrame, as_of: date) -> SessionWindows | None:
    """Return the session's windows, or None where the rows hold none that can be scored."""
    try:
        return SessionWindows.of(rows, as_of)
    except DataNotReady:
        return None


def _as_held(
    con: duckdb.DuckDBPyConnection, recipe: Recipe, start: date, end: date, stored_at: datetime
) -> pl.DataFrame:
    """Return feature_daily's rows with their session_number, of nothing but raw rows that the store held then.

    What each night could know is decided by its own cutoff, as on the night itself.
    """
    rows = compute_features(con, start, end, recipe, Knowledge(stored_at=stored_at))
    number = read_sessions(con).select(as_of="session", session_number="session_number")
    return rows.join(number, on="as_of", how="inner", validate="m:1", maintain_order="left")


def _builds(con: duckdb.DuckDBPyConnection, start: date, end: date) -> pl.DataFrame:
    """Return by which definitions, when and by which run the features of each session were computed, the last last."""
    builds: pl.DataFrame = con.sql(_BUILDS, params={"start": start, "end": end}).pl()
    return builds.sort("built_at")


def _is_due(con: duckdb.DuckDBPyConnection, as_of: date) -> bool:
    """Return whether some of the features up to ``as_of`` are about to be computed anew, or half of them are."""
    due = con.execute("SELECT count(*) > 0 FROM feature_due WHERE from_date <= $as_of", {"as_of": as_of}).fetchall()
    return bool(due[0][0])


def _late_rows(con: duckdb.DuckDBPyConnection, as_of: date, scored_at: datetime) -> list[LateRows]:
    found = []
    for table in TABLES.values():
        ticker = "list(DISTINCT ticker ORDER BY ticker)" if "ticker" in table.key else "[]"
        by_day = f" AND {table.day} <= $as_of" if table.day else ""
        came, retracted, tickers = con.execute(
            f"SELECT count(*) FILTER (ingested_at > $at), count(*) FILTER (ingested_at <= $at), {ticker}"
            f" FROM {table.name} WHERE available_at <= $cutoff_at{by_day}"
            " AND is_held(ingested_at, retracted_at, $at) <> (retracted_at IS NULL)",
            {"at": scored_at, "cutoff_at": cutoff_of(con, as_of)} | ({"as_of": as_of} if table.day else {}),
        ).fetchall()[0]
        if came or retracted:
            found.append(LateRows(table.name, came, retracted, tuple(tickers or ())))
    return found
