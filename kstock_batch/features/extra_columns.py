"""Columns of extra features: added and dropped as the register says, filled without touching any other column."""

from datetime import date
from itertools import groupby

import duckdb

from kstock_batch.console import Advance
from kstock_batch.features.block import Recipe
from kstock_batch.features.extra import Extras, digest_of, require_sound, with_extras
from kstock_batch.features.knowledge import BEFORE_ALL, EVERYTHING, Block
from kstock_batch.features.plan import Due, blocks_of
from kstock_batch.features.prices import read_series
from kstock_batch.quoting import quoted_name
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import Warehouse


def sync_columns(warehouse: Warehouse, extras: Extras, run: Run) -> None:
    """Make feature_daily have a column for each of ``extras``, and for no feature that is registered no more.

    One that is new or defined anew is noted as not filled before anything is computed: whatever interrupts that, no
    value of another definition can pass for one of this.
    """
    require_sound(extras)
    con = warehouse.con
    wanted = {extra.name: digest_of(extra) for extra in extras}
    noted = dict(con.execute("SELECT name, definition_digest FROM extra_feature").fetchall())
    if wanted == noted:
        return
    columns = _columns(con)
    with warehouse.transaction():
        for name in sorted(noted.keys() - wanted.keys()):
            con.execute(f"ALTER TABLE feature_daily DROP COLUMN IF EXISTS {quoted_name(name)}")
            con.execute("DELETE FROM extra_feature WHERE name = $name", {"name": name})
        for name in sorted(wanted):
            if name not in columns:
                con.execute(f"ALTER TABLE feature_daily ADD COLUMN {quoted_name(name)} FLOAT")
            if noted.get(name) != wanted[name]:
                _note(con, name, wanted[name], BEFORE_ALL, run)


def fill_columns(warehouse: Warehouse, extras: Extras, due: Due, recipe: Recipe, run: Run, advance: Advance) -> None:
    """Fill what the blocks of ``due`` did not: the sessions before them, of features that are not filled so far."""
    con, days = warehouse.con, due.days_before_blocks()
    reached = dict(con.execute("SELECT name, through_session FROM extra_feature").fetchall())
    by_reach = sorted(extras, key=lambda extra: reached[extra.name])
    for through, group in groupby(by_reach, key=lambda extra: reached[extra.name]):
        together = list(group)
        names = ", ".join(extra.name for extra in together)
        for block in blocks_of(con, due.sessions, [day for day in days if day > through]):
            advance(f"{names} {block.start} … {block.end}", steps=0)
            with run.stage(f"fill {names} {block.start} … {block.end}") as stage, warehouse.transaction():
                stage.n_rows = _fill(con, together, block, recipe)
                for extra in together:
                    _note(con, extra.name, digest_of(extra), block.end, run)
        if through != due.newest:
            with warehouse.transaction():
                for extra in together:
                    _note(con, extra.name, digest_of(extra), due.newest, run)


def _fill(con: duckdb.DuckDBPyConnection, extras: Extras, block: Block, recipe: Recipe) -> int:
    series = read_series(con, block, recipe.price_basis, EVERYTHING)
    span = {"start": block.start, "end": block.end}
    keys = con.sql("SELECT ticker, as_of FROM feature_daily WHERE as_of BETWEEN $start AND $end", params=span).pl()
    filled = with_extras(con, keys, series, block, extras, EVERYTHING)
    names = [quoted_name(extra.name) for extra in extras]
    values = ", ".join(f"{name} = filled.{name}" for name in names)
    con.register("filled", filled)
    try:
        con.execute(
            f"UPDATE feature_daily SET {values} FROM filled"
            " WHERE feature_daily.ticker = filled.ticker AND feature_daily.as_of = filled.as_of"
            " AND feature_daily.as_of BETWEEN $start AND $end",
            span,
        )
    finally:
        con.unregister("filled")
    return filled.height


def _note(con: duckdb.DuckDBPyConnection, name: str, digest: str, through: date, run: Run) -> None:
    con.execute("DELETE FROM extra_feature WHERE name = $name", {"name": name})
    con.execute(
        "INSERT INTO extra_feature VALUES ($name, $digest, $through, $run_id, $at)",
        {"name": name, "digest": digest, "through": through, "run_id": run.run_id, "at": run.started_at},
    )


def _columns(con: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in con.execute("DESCRIBE feature_daily").fetchall()}
