"""Outcomes: the sessions that matured, or whose predictions or outcomes changed, joined with what came true.

A session is marked as due in the transaction that changes its predictions or its labels (table ``outcome_due``), and
judged once the newest prices show its outcomes; until then the mark stays.
"""

from collections.abc import Sequence
from datetime import date

import duckdb
import polars as pl

from kstock_batch.judging.scorecard import scorecards
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse, insert_rows

BLOCK = 60  # sessions judged at once: what a correction of old prices makes due need not fit the memory


def judge_due_sessions(warehouse: Warehouse, run: Run, *, known_through: date, basis: str) -> int:
    """Make the scorecards of all sessions due those of the rows as they are; return how many predictions were judged.

    ``known_through`` is the newest session with prices: an outcome of later is not known, whatever a label says.
    """
    marked = Query.load("judging/due_session").frame(warehouse.con, known_through=known_through)
    n_judged = 0
    for start in range(0, marked.height, BLOCK):
        block = marked[start : start + BLOCK]
        with warehouse.transaction() as con:
            n_judged += _judge(con, block, run, basis)
    return n_judged


def _judge(con: duckdb.DuckDBPyConnection, block: pl.DataFrame, run: Run, basis: str) -> int:
    """Replace what is kept of the block's sessions, within a transaction of the caller's."""
    for table in ("early_return", "scorecard", "scorecard_decile"):
        _delete(con, table, block["as_of"].to_list())
    matured: Sequence[date] = block.filter("is_matured")["as_of"].to_list()
    if not matured:
        return 0
    early = Query.load("labels/early_return").frame(con, sessions=matured, start=matured[0], basis=basis)
    insert_rows(con, "early_return", early, order="as_of, ticker")
    span = {"sessions": matured, "start": matured[0], "end": matured[-1]}
    cards = scorecards(Query.load("judging/judged").frame(con, **span))
    by_whom = {"run_id": pl.lit(run.run_id), "judged_at": pl.lit(run.started_at)}
    insert_rows(con, "scorecard", cards.sessions.with_columns(**by_whom), order="as_of")
    insert_rows(con, "scorecard_decile", cards.deciles, order="as_of, decile")
    _delete(con, "outcome_due", matured)
    return int(cards.sessions["n"].sum())


def _delete(con: duckdb.DuckDBPyConnection, table: str, sessions: Sequence[date]) -> None:
    con.execute(f"DELETE FROM {table} WHERE list_contains($sessions, as_of)", {"sessions": sessions})
