"""Build: raw tables → feature_daily and label_daily, block after block, each committed with its ledger and its state.

A block that was committed is done: killed at any moment, the next build goes on after it.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import polars as pl

from kstock_batch.console import Advance
from kstock_batch.features.block import Computed, Recipe, compute_block
from kstock_batch.features.extra import Extras
from kstock_batch.features.extra_columns import fill_columns, sync_columns
from kstock_batch.features.knowledge import Block
from kstock_batch.features.labels import replace_labels
from kstock_batch.features.plan import Due, read_due
from kstock_batch.features.sessions import price_range
from kstock_batch.market.contract import HORIZON
from kstock_batch.market.extra_features import EXTRA_FEATURES
from kstock_batch.market.sessions import Sessions
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import Warehouse, insert_rows


@dataclass(frozen=True)
class Build:
    """What a build did: ``n_rows`` of features for the sessions in [start, end]; 0 = nothing was due."""

    start: date
    end: date
    n_rows: int
    n_labels: int


def recipe_of(settings: Settings) -> Recipe:
    """Return the settings that a feature's value depends on."""
    return Recipe(settings.price_basis, settings.include_preferred)


def mark_everything_due(warehouse: Warehouse, settings: Settings, run: Run) -> None:
    """Have the next build compute every session, and the one after it go on if that is interrupted."""
    first, _ = price_range(warehouse.con, settings.price_basis)
    rebuild = {"first": first, "run_id": run.run_id}
    warehouse.con.execute("INSERT INTO feature_due VALUES ('rebuild', $first, $run_id)", rebuild)


def bring_up_to_date(
    warehouse: Warehouse,
    settings: Settings,
    run: Run,
    *,
    extras: Extras = EXTRA_FEATURES,
    advance: Advance = lambda *_, **__: None,
) -> Build:
    """Compute every session whose features are missing or may have changed, with its labels, and commit them."""
    con, recipe = warehouse.con, recipe_of(settings)
    sync_columns(warehouse, extras, run)
    due = read_due(con, recipe)
    n_due = sum(due.sessions_of(block).height for block in due.blocks)
    n_rows = 0
    for block in due.blocks:
        span = f"{block.start} … {block.end}"
        advance(span, steps=0, total=n_due)
        with run.stage(f"features {span}") as stage:
            computed = compute_block(con, block, recipe, checkpoints=due.checkpoints(block), extras=extras)
            stage.n_rows = computed.rows.height
        with run.stage(f"commit features {span}") as stage, warehouse.transaction():
            stage.n_rows = _commit(con, block, due, computed, run)
        n_rows += computed.rows.height
        advance(span, steps=due.sessions_of(block).height)
    fill_columns(warehouse, extras, due, recipe, run, advance)
    n_labels = _bring_labels_up_to_date(warehouse, settings, run, due)
    return Build(due.blocks[0].start if due.blocks else due.newest, due.newest, n_rows, n_labels)


def _commit(con: duckdb.DuckDBPyConnection, block: Block, due: Due, computed: Computed, run: Run) -> int:
    """Make the store hold what was computed, within a transaction of the caller's."""
    span = {"start": block.start, "end": block.end}
    if block.start == due.first:  # of prices that began earlier, and count no more
        for table in ("feature_daily", "feature_session", "label_daily"):
            con.execute(f"DELETE FROM {table} WHERE as_of < $first", {"first": due.first})
    con.execute("DELETE FROM feature_daily WHERE as_of BETWEEN $start AND $end", span)
    insert_rows(con, "feature_daily", due.clustered(computed.rows), order=None)
    _cluster_again(con, block, due)
    _keep_state(con, block, due, computed)
    con.execute("DELETE FROM feature_session WHERE as_of BETWEEN $start AND $end", span)
    insert_rows(con, "feature_session", _ledger_rows(block, due, computed.rows, run), order="as_of")
    con.execute("DELETE FROM scored_session WHERE as_of BETWEEN $start AND $end", span)
    con.execute("INSERT INTO label_due VALUES ($start, $run_id)", {"start": block.start, "run_id": run.run_id})
    _mark_done(con, block, due, run)
    return computed.rows.height


def _cluster_again(con: duckdb.DuckDBPyConnection, block: Block, due: Due) -> None:
    """Bring the rows of a cluster together that were written on many nights, once its last session is there."""
    first, last = due.cluster_of(block.start)
    if block.start == first or block.end < last:
        return
    span = {"first": first, "last": last}
    con.execute(
        "CREATE OR REPLACE TEMP TABLE scattered AS FROM feature_daily WHERE as_of BETWEEN $first AND $last", span
    )
    con.execute("DELETE FROM feature_daily WHERE as_of BETWEEN $first AND $last", span)
    con.execute("INSERT INTO feature_daily FROM scattered ORDER BY ticker, as_of")
    con.execute("DROP TABLE scattered")


def _keep_state(con: duckdb.DuckDBPyConnection, block: Block, due: Due, computed: Computed) -> None:
    """Store the block's checkpoints and actions, and let go of state that nothing will go on from."""
    con.execute("DELETE FROM feature_state WHERE session >= $start", {"start": block.start})
    insert_rows(con, "feature_state", computed.state, order="session, ticker")
    con.execute(
        "DELETE FROM feature_state WHERE session NOT IN (SELECT unnest($kept))", {"kept": due.kept_checkpoints(block)}
    )
    # Of a ticker that begins in this block (anew, or with its first trade) everything found so far is found again.
    found_again = computed.actions.filter(pl.col("session") <= block.checkpoint)["ticker"].to_list()
    _mark_moved_labels(con, computed)
    con.execute(
        "DELETE FROM price_action WHERE session > $checkpoint OR list_contains(CAST($again AS VARCHAR[]), ticker)",
        {"checkpoint": block.checkpoint, "again": computed.begun_anew + found_again},
    )
    insert_rows(con, "price_action", computed.actions, order="session, ticker")


def _mark_moved_labels(con: duckdb.DuckDBPyConnection, computed: Computed) -> None:
    """Mark outcomes that a corporate action which is found or lost anew may change."""
    if not computed.begun_anew:
        return
    names = {"names": computed.begun_anew}
    stored = con.sql("FROM price_action WHERE list_contains(CAST($names AS VARCHAR[]), ticker)", params=names).pl()
    key = ["ticker", "session", "factor"]
    found = computed.actions.filter(pl.col("ticker").is_in(computed.begun_anew))
    moved = pl.concat([stored.join(found, on=key, how="anti"), found.join(stored, on=key, how="anti")])
    if (since := moved["session"].min()) is not None:
        con.execute("INSERT INTO label_due VALUES ($since, 'a corporate action')", {"since": since})


def _ledger_rows(block: Block, due: Due, rows: pl.DataFrame, run: Run) -> pl.DataFrame:
    counted = rows.group_by("as_of").agg(n_rows=pl.len(), n_scoreable=pl.col("is_scoreable").sum())
    return due.sessions_of(block).select(as_of="session").join(counted, on="as_of", how="left", validate="1:1").select(
        "as_of",
        pl.col("n_rows").fill_null(0),  # a session of the calendar on which nobody traded
        pl.col("n_scoreable").fill_null(0),
        definition_digest=pl.lit(due.digest),
        run_id=pl.lit(run.run_id),
        built_at=pl.lit(run.started_at),
    )  # fmt: skip


def _mark_done(con: duckdb.DuckDBPyConnection, block: Block, due: Due, run: Run) -> None:
    """Move what is due past the block: what was marked while it ran is in the next run's hands."""
    con.execute("DELETE FROM feature_due WHERE from_date <= $end", {"end": block.end})
    if block.end < due.newest:
        rest = {"after": block.end + timedelta(days=1), "run_id": run.run_id}
        con.execute("INSERT INTO feature_due VALUES ('the rest of a build', $after, $run_id)", rest)


def _bring_labels_up_to_date(warehouse: Warehouse, settings: Settings, run: Run, due: Due) -> int:
    """Compute the labels whose outcome may have changed; an outcome is known HORIZON sessions late."""
    con = warehouse.con
    since = con.execute("SELECT min(from_date) FROM label_due").fetchall()[0][0]
    if since is None or since > due.newest:
        return 0
    start = Sessions(due.sessions["session"].to_list()).back(since, HORIZON)
    with run.stage("labels") as stage, warehouse.transaction():
        stage.n_rows = replace_labels(con, start, due.newest, settings.price_basis)
        con.execute("DELETE FROM label_due")
        con.execute(
            "INSERT INTO outcome_due SELECT DISTINCT as_of, $run_id FROM prediction WHERE as_of >= $start",
            {"start": start, "run_id": run.run_id},
        )
    return stage.n_rows
