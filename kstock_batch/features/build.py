"""Build: raw tables → feature_daily and label_daily, from the first session that anything new can have changed."""

import hashlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import polars as pl

from kstock_batch.errors import DataNotReady
from kstock_batch.features.fundamental import read_fundamentals
from kstock_batch.features.labels import read_labels
from kstock_batch.features.market_wide import read_market_wide
from kstock_batch.features.prices import read_bars
from kstock_batch.features.technical import with_indicators
from kstock_batch.market.contract import (
    FEATURE_NAMES,
    FEATURE_SET_VERSION,
    HORIZON,
    LABEL_RISE,
    MAX_WINDOW_SPAN,
    MIN_BARS,
    WINDOW,
    fingerprint,
)
from kstock_batch.market.policy import CALENDAR, policy_bonus
from kstock_batch.market.sectors import SECTOR_CODES, SECTOR_MAP_VERSION
from kstock_batch.market.sessions import Sessions
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query, sql_folder
from kstock_batch.store.warehouse import Warehouse, replace_rows


@dataclass(frozen=True)
class Build:
    """What a build did: ``n_rows`` of features for the sessions in [start, end]; 0 = nothing was due."""

    start: date
    end: date
    n_rows: int
    n_labels: int


def bring_up_to_date(warehouse: Warehouse, settings: Settings, run: Run, *, rebuild: bool = False) -> Build:
    """Compute every session whose features are missing or may have changed, with its labels, and commit them."""
    con = warehouse.con
    first, newest = price_range(con)
    digest = definition_digest(include_preferred=settings.include_preferred)
    start = first if rebuild else due_from(con, first, newest, digest)
    if start is None:
        return Build(newest, newest, 0, 0)
    with run.stage("features") as stage:
        rows = compute_features(con, start, newest, include_preferred=settings.include_preferred)
        stage.n_rows = rows.height
    with run.stage("labels") as stage:
        # An outcome is known HORIZON sessions late, so new prices complete labels of sessions before them.
        since = Sessions(session_days(con)).back(start, HORIZON)
        labels = read_labels(con, since, newest)
        stage.n_rows = labels.height
    with run.stage("commit features"), warehouse.transaction():
        replace_rows(con, "feature_daily", rows, start=start, end=newest)
        replace_rows(con, "label_daily", labels, start=since, end=newest)
        con.execute("DELETE FROM feature_due")
        con.execute("DELETE FROM scored_session WHERE as_of >= $start", {"start": start})
        con.execute(
            "INSERT INTO feature_build VALUES ($version, $fingerprint, $digest, $start, $end, $n_rows, $run_id, $at)",
            {
                "version": FEATURE_SET_VERSION,
                "fingerprint": fingerprint(),
                "digest": digest,
                "start": start,
                "end": newest,
                "n_rows": rows.height,
                "run_id": run.run_id,
                "at": run.started_at,
            },
        )
    return Build(start, newest, rows.height, labels.height)


def compute_features(
    con: duckdb.DuckDBPyConnection, start: date, end: date, *, include_preferred: bool = False
) -> pl.DataFrame:
    """Return feature_daily's rows for as_of in [start, end]; what comes after ``end`` is never read."""
    bars = with_indicators(read_bars(con, end))
    bars = bars.with_columns(_is_window_dense(Query.load("features/session").frame(con)))
    bars = bars.filter(pl.col("session") >= start).rename({"session": "as_of"})
    listing = Query.load("features/listing").frame(con)
    joined = (
        bars.join(listing, on="ticker", how="left", validate="m:1")
        .join(read_market_wide(con, start, end), on="as_of", how="left", validate="m:1")
        .join(read_fundamentals(con, start, end), on=["ticker", "as_of"], how="left", validate="1:1")
        .with_columns(_is_scoreable(include_preferred), _sector_code())
        .with_columns(rs_percentile(), policy_bonus().alias("policy_bonus"))
    )
    return joined.select(
        "ticker",
        "as_of",
        *(pl.col(name).cast(pl.Float32) for name in FEATURE_NAMES),
        pl.col("close").cast(pl.Float32),
        "bars_available",
        pl.sum_horizontal(pl.col(name).is_null() for name in FEATURE_NAMES).cast(pl.UInt8).alias("null_feature_count"),
        "is_scoreable",
        pl.lit(FEATURE_SET_VERSION, dtype=pl.UInt16).alias("feature_set_version"),
    ).sort("as_of", "ticker")


def rs_percentile() -> pl.Expr:
    """Return 100·(N - rank)/(N - 1) of return_3m_pct among the session's scoreable names; high = strong."""
    among = pl.when("is_scoreable").then("return_3m_pct")
    n = among.count().over("as_of")
    rank = among.rank("min", descending=True).over("as_of")
    return pl.when(n >= 2).then(100 * (n - rank) / (n.cast(pl.Float64) - 1)).alias("rs_percentile")


def price_range(con: duckdb.DuckDBPyConnection) -> tuple[date, date]:
    """Return the first and the newest session with adjusted prices."""
    found = con.execute("SELECT min(session), max(session) FROM raw_price WHERE price_basis = 'adjusted'").fetchall()
    if found[0][0] is None:
        raise DataNotReady(
            "the store holds no prices", fix="run `kstock-batch demo` or `kstock-batch ingest files DIR`"
        )
    return found[0][0], found[0][1]


def session_asked(con: duckdb.DuckDBPyConnection, as_of: date | None) -> date:
    """Return ``as_of`` if it is a session with prices; by default the newest one."""
    first, newest = price_range(con)
    if as_of is None:
        return newest
    if not first <= as_of <= newest:
        raise DataNotReady(
            f"{as_of} is outside the stored prices, {first} … {newest}", fix="ingest that session, or name another"
        )
    if as_of not in (sessions := Sessions(session_days(con))):
        raise DataNotReady(
            f"{as_of} was no session of the exchange", fix=f"use {sessions.at_or_before(as_of)}, the one before it"
        )
    return as_of


def due_from(con: duckdb.DuckDBPyConnection, first: date, newest: date, digest: str) -> date | None:
    """Return the first session whose features may differ from what is stored, or None."""
    built = con.execute("SELECT definition_digest FROM feature_build ORDER BY rowid DESC LIMIT 1").fetchall()
    if not built or built[0][0] != digest:
        return first
    due = con.execute("SELECT min(from_date) FROM feature_due").fetchall()[0][0]
    if due is None or due > newest:
        return None
    return max(first, Sessions(session_days(con)).between(due, newest)[0])


def definition_digest(*, include_preferred: bool) -> str:
    """Return a digest that changes with any text or constant that a stored feature or label depends on."""
    whole = hashlib.sha256(repr((fingerprint(), include_preferred, HORIZON, LABEL_RISE, MIN_BARS)).encode())
    whole.update(repr((MAX_WINDOW_SPAN, SECTOR_MAP_VERSION, SECTOR_CODES, CALENDAR)).encode())
    own = sorted(Path(__file__).parent.glob("*.py"))
    statements = sorted(path for folder in ("features", "labels") for path in (sql_folder() / folder).glob("*.sql"))
    for path in (*own, *statements):
        whole.update(path.read_bytes())
    return whole.hexdigest()[:12]


def session_days(con: duckdb.DuckDBPyConnection) -> list[date]:
    """Return every session of the calendar, past and known future, oldest first."""
    return Query.load("features/session").frame(con)["session"].to_list()


def _is_window_dense(sessions: pl.DataFrame) -> pl.Expr:
    """Return whether the last WINDOW bars span at most MAX_WINDOW_SPAN sessions."""
    number = pl.col("session").replace_strict(sessions["session"], sessions["session_number"], return_dtype=pl.Int32)
    span = (number - number.shift(WINDOW - 1) + 1).over("ticker", order_by="session")
    return (span <= MAX_WINDOW_SPAN).fill_null(False).alias("is_window_dense")


def _is_scoreable(include_preferred: bool) -> pl.Expr:
    is_common = ~pl.col("is_spac") & (~pl.col("is_preferred") | pl.lit(include_preferred))
    on_board = pl.col("market").is_in(["KOSPI", "KOSDAQ"])
    enough = (pl.col("bars_available") >= MIN_BARS) & pl.col("is_window_dense")
    return (enough & on_board & is_common).fill_null(False).alias("is_scoreable")


def _sector_code() -> pl.Expr:
    return pl.col("sector").replace_strict(SECTOR_CODES, default=0, return_dtype=pl.Int32).alias("sector_encoded")
