"""Whether the store has anything to say that the publication does not: what is already said need not be published."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from kstock_batch.bot.publication import SCHEMA_VERSION
from kstock_batch.files import log_of
from kstock_batch.quoting import quoted_text
from kstock_batch.serving.publication.contents import TABLES, card_rows
from kstock_batch.serving.publication.generations import Generations, read_facts
from kstock_batch.store.queries import Query

# A run that scores nothing leaves its own lines in these: no reason for the bot to read everything anew.
_OF_RUNS = ("run", "run_stage", "audit_result")
# Sums of many rows, whose last bits depend on the order in which threads came by; they follow from the scorecards.
_DERIVED = ("running_scorecard", "running_decile")
_COMPARED = tuple(table for table in TABLES if table not in _OF_RUNS + _DERIVED)
_FACTS = "SELECT schema_version, n_predictions, (SELECT count(*) FROM latest) FROM publication"
_SUM = "SELECT count(*), sum(hash(t)) FROM ({}) AS t"

Sums = dict[str, tuple[Any, ...]]


def is_published(con: duckdb.DuckDBPyConnection, target: Path, model_card: Mapping[str, Any]) -> bool:
    """Return whether ``target`` says, row for row, what would be published from the store, its ledger aside."""
    try:
        published = _sums_of(target)
    except duckdb.Error:  # absent, damaged or of another shape
        return False
    return published == _sums_to_publish(con, model_card) and not _is_touched(target)


def _is_touched(target: Path) -> bool:
    """Whether another program has written to the file, or its blocks have changed: readers may refuse it for either."""
    facts = read_facts([target])[0]
    return log_of(target).exists() or isinstance(facts, str) or Generations(target).damage(facts.run_id) is not None


def _sums_to_publish(con: duckdb.DuckDBPyConnection, model_card: Mapping[str, Any]) -> Sums:
    sums = {table: _sum(con, Query.load(f"serve/{table}").text) for table in _COMPARED}
    card = _sum(con, Query.load("serve/model_card").text, card_rows(model_card))
    said = _sum(con, "FROM named_prediction")
    newest = _sum(con, "FROM named_prediction WHERE as_of = (SELECT max(as_of) FROM prediction)")
    facts = (SCHEMA_VERSION, said[0], newest[0])
    return {**sums, "model_card": card, "prediction": said, "latest": newest, "publication": facts}


def _sums_of(target: Path) -> Sums:
    """Read every row of the file, in an instance of its own: a damaged one would take the store's down with it."""
    with duckdb.connect(":memory:") as con:
        con.execute(f"ATTACH {quoted_text(target)} AS published (READ_ONLY)")
        con.execute("USE published")
        sums = {table: _sum(con, f"FROM {table}") for table in (*_COMPARED, "model_card", "prediction", "latest")}
        return {**sums, "publication": con.execute(_FACTS).fetchall()[0]}


def _sum(con: duckdb.DuckDBPyConnection, statement: str, params: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
    row: tuple[Any, ...] = con.execute(_SUM.format(statement), params).fetchall()[0]
    return row
