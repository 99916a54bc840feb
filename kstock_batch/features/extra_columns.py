"""Columns of extra features: added and dropped as the register says, filled without touching any other column."""

from collections.abc import Callable
from datetime import date

import duckdb

from kstock_batch.features.block import Recipe
from kstock_batch.features.extra import Extras, digest_of, require_sound, with_extras
from kstock_batch.features.knowledge import EVERYTHING, Block
from kstock_batch.features.plan import Due, blocks_of
from kstock_batch.features.prices import read_series
from kstock_batch.market.extra_features import ExtraFeature
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import Warehouse

Advance = Callable[..., None]


def sync_columns(warehouse: Warehouse, extras: Extras) -> None:
    """Make feature_daily have a column for each of ``extras`` and for no feature that is registered no more."""
    require_sound(extras)
    con = warehouse.con
    known = {name for (name,) in con.execute("SELECT name FROM extra_feature").fetchall()}
    stored = _columns(con)
    registered = {extra.name for extra in extras}
    if not (known - registered or registered - stored):
        return
    with warehouse.transaction():
        for name in sorted(known - registered):
            con.execute(f"ALTER TABLE feature_daily DROP COLUMN IF EXISTS {name}")
            con.execute("DELETE FROM extra_feature WHERE name = $name", {"name": name})
        for name in sorted(registered - stored):
            con.execute(f"ALTER TABLE feature_daily ADD COLUMN {name} FLOAT")


def fill_columns(
    warehouse: Warehouse, extras: Extras, due: Due, recipe: Recipe, run: Run, advance: Advance = lambda *_, **__: None
) -> None:
    """Fill what the blocks of ``due`` did not: the sessions before them, of features that are new or defined anew."""
    for extra in extras:
        digest, filled_through = digest_of(extra), None
        found = warehouse.con.execute(
            "SELECT through_session FROM extra_feature WHERE name = $name AND definition_digest = $digest",
            {"name": extra.name, "digest": digest},
        ).fetchall()
        filled_through = found[0][0] if found else None
        days = due.days_before_blocks()
        missing = days if filled_through is None else [day for day in days if day > filled_through]
        for block in blocks_of(warehouse.con, due.sessions, missing):
            advance(f"{extra.name} {block.start} … {block.end}", steps=0)
            with run.stage(f"fill {extra.name} {block.start} … {block.end}") as stage, warehouse.transaction():
                stage.n_rows = _fill(warehouse.con, extra, block, recipe)
                _note(warehouse.con, extra, digest, block.end, run)
        if filled_through != due.newest:
            with warehouse.transaction():
                _note(warehouse.con, extra, digest, due.newest, run)


def _fill(con: duckdb.DuckDBPyConnection, extra: ExtraFeature, block: Block, recipe: Recipe) -> int:
    series = read_series(con, block, recipe.price_basis, EVERYTHING)
    span = {"start": block.start, "end": block.end}
    keys = con.sql("SELECT ticker, as_of FROM feature_daily WHERE as_of BETWEEN $start AND $end", params=span).pl()
    filled = with_extras(con, keys, series, block, [extra], EVERYTHING)
    con.register("filled", filled)
    con.execute(
        f"UPDATE feature_daily SET {extra.name} = filled.{extra.name} FROM filled"
        " WHERE feature_daily.ticker = filled.ticker AND feature_daily.as_of = filled.as_of"
        " AND feature_daily.as_of BETWEEN $start AND $end",
        span,
    )
    con.unregister("filled")
    return filled.height


def _note(con: duckdb.DuckDBPyConnection, extra: ExtraFeature, digest: str, through: date, run: Run) -> None:
    con.execute("DELETE FROM extra_feature WHERE name = $name", {"name": extra.name})
    con.execute(
        "INSERT INTO extra_feature VALUES ($name, $digest, $through, $run_id, $at)",
        {"name": extra.name, "digest": digest, "through": through, "run_id": run.run_id, "at": run.started_at},
    )


def _columns(con: duckdb.DuckDBPyConnection) -> set[str]:
    found = con.execute(
        "SELECT column_name FROM duckdb_columns() WHERE database_name = current_database()"
        " AND table_name = 'feature_daily'"
    ).fetchall()
    return {name for (name,) in found}
