"""Features computed in steps that go on from each other, as nights and interrupted backfills do."""

from itertools import pairwise

import polars as pl

from kstock_batch.features.block import Recipe, compute_block
from kstock_batch.features.knowledge import BEFORE_ALL, Block
from kstock_batch.features.sessions import read_sessions
from kstock_batch.store.warehouse import insert_rows


def computed_in_steps(con, sessions, cuts, recipe=Recipe()):  # noqa: B008  # frozen
    """Return the features of ``sessions`` computed up to each cut in turn; the store is left as it was."""
    cutoff = dict(read_sessions(con).select("session", "cutoff_at").iter_rows())
    edges = [0, *sorted(set(cuts)), len(sessions)]
    parts, checkpoint = [], BEFORE_ALL
    con.execute("BEGIN TRANSACTION")
    con.execute("DELETE FROM feature_state")
    con.execute("DELETE FROM price_action")
    for start, end in pairwise(edges):
        if start == end:
            continue
        first, last = sessions[start], sessions[end - 1]
        block = Block(checkpoint, first, last, cutoff[first], cutoff[last])
        step = compute_block(con, block, recipe, checkpoints=[last])
        insert_rows(con, "feature_state", step.state, order="ticker")
        insert_rows(con, "price_action", step.actions, order="session, ticker")
        parts.append(step.rows)
        checkpoint = last
    con.execute("ROLLBACK")
    return pl.concat(parts).sort("as_of", "ticker")
