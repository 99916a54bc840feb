"""What a publication holds, and how the last one is carried on: only sessions that differ are written anew.

A year of predictions takes a second to copy through SQL and two to digest, and all of it but one session was
published yesterday. So a new publication begins as a copy of the last one; a hash of every row says which sessions
differ from the store's, and only those are replaced. Small tables are made anew each time.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb

from kstock_batch.bot.publication import SCHEMA_VERSION
from kstock_batch.errors import DataNotReady
from kstock_batch.store.catalogue import write_comments
from kstock_batch.store.queries import Query

CATALOGUE = "serving"
TABLES = (
    *("feature_latest", "window_latest", "audit_result", "run", "run_stage", "calendar"),
    *("scorecard", "running_scorecard", "running_decile", "drift"),
)
VIEWS = ("ml_predictions", "session_digest", "content_digest")  # each after what it reads

_CARRIED = f"{CATALOGUE}.prediction"
_HELD = "SELECT table_name FROM duckdb_tables() WHERE database_name = $name ORDER BY table_name"
# The sum does not depend on the order of the rows, and both sides are summed by the same DuckDB: `hash` may be
# another function in another version, so it is kept nowhere.
_HASHES = "SELECT as_of, count(*) AS n_rows, sum(hash(p)) AS row_hash FROM {} AS p GROUP BY as_of ORDER BY as_of"
# A stock that changes its name changes rows of every session, but only its own.
_RENAME = f"""
    UPDATE {_CARRIED} AS p SET name = l.name, market = l.market, sector = l.sector FROM listing AS l
    WHERE p.ticker = l.ticker AND (p.name, p.market, p.sector) IS DISTINCT FROM (l.name, l.market, l.sector)
"""

Hashes = dict[date, tuple[int, int]]


class CannotCarry(Exception):
    """The last publication is no beginning for the next, which is built from nothing instead."""


@dataclass(frozen=True)
class Contents:
    """What a file was filled with.

    Attributes
    ----------
    row_hash : of all predictions as the store has them; the file's must be the same
    start, end : the sessions that were written now; all others were in the last publication already
    """

    as_of: date
    n_predictions: int
    digest: str
    row_hash: str
    start: date
    end: date


def fill(con: duckdb.DuckDBPyConnection, facts: Mapping[str, Any], model_card: Mapping[str, Any]) -> Contents:
    """Make the attached database hold everything predicted so far, whether it is new or the last publication's copy.

    ``facts`` are the run_id and the published_at (naive UTC) of the publication.
    """
    with _transaction(con):  # one commit instead of a hundred
        wanted = _hashes(con, "named_prediction")
        if not wanted:
            raise DataNotReady("the store holds no predictions to publish", fix="run `kstock-batch score`")
        start, end = _make_equal(con, wanted)
        for table in TABLES:
            _create_table(con, table)
        _create_table(con, "model_card", **card_rows(model_card))
        digest = _derive(con, start, end)
        _create_table(con, "publication", schema_version=SCHEMA_VERSION, digest=digest, **facts)
        write_comments(con, CATALOGUE, has_macros=False)
    con.execute(f"CHECKPOINT {CATALOGUE}")
    n_predictions = sum(n_rows for n_rows, _ in wanted.values())
    row_hash = sum(row_hash for _, row_hash in wanted.values())
    return Contents(max(wanted), n_predictions, digest, str(row_hash), start, end)


def _make_equal(con: duckdb.DuckDBPyConnection, wanted: Hashes) -> tuple[date, date]:
    """Make the file's predictions those of the store, and return the range of sessions that were written."""
    held = {name for (name,) in con.execute(_HELD, {"name": CATALOGUE}).fetchall()}
    if not held:
        start, end = min(wanted), max(wanted)
        _create_table(con, "prediction", start=start, end=end)
        return start, end
    _require_same_columns(con, held)
    differing = _differing(con, wanted)
    if len(differing) > 1:
        con.execute(_RENAME)
        differing = _differing(con, wanted)
    # A range instead of a list: it can be pushed below the digests, and what lies between is written to no harm.
    start, end = (min(differing), max(differing)) if differing else (max(wanted), max(wanted))
    if 2 * sum(start <= day <= end for day in wanted) > len(wanted) + 1:
        raise CannotCarry(f"{len(differing)} of {len(wanted)} sessions differ")
    if differing:
        con.execute(f"DELETE FROM {_CARRIED} WHERE as_of BETWEEN $start AND $end", {"start": start, "end": end})
        _insert(con, "prediction", start, end)
    return start, end


def _require_same_columns(con: duckdb.DuckDBPyConnection, held: set[str]) -> None:
    """Refuse a copy that a program with other columns made: a row of it could not equal one of ours."""
    if not {"prediction", "published_session"} <= held:
        raise CannotCarry(f"it holds only {sorted(held)}")
    found = con.execute(f"DESCRIBE {_CARRIED}").fetchall()
    wanted = con.execute("DESCRIBE named_prediction").fetchall()
    if [row[:2] for row in found] != [row[:2] for row in wanted]:
        raise CannotCarry("its predictions have other columns")


def _differing(con: duckdb.DuckDBPyConnection, wanted: Hashes) -> set[date]:
    """Return the sessions that the file holds otherwise than the store, or that only one of them holds."""
    found = _hashes(con, _CARRIED)
    return {day for day in wanted.keys() | found.keys() if wanted.get(day) != found.get(day)}


def _hashes(con: duckdb.DuckDBPyConnection, relation: str) -> Hashes:
    return {day: (n_rows, row_hash) for day, n_rows, row_hash in con.execute(_HASHES.format(relation)).fetchall()}


def _derive(con: duckdb.DuckDBPyConnection, start: date, end: date) -> str:
    """Make what follows from the file's own predictions, and return the digest of all; old sessions keep theirs."""
    with _in_use(con):
        con.execute(f"CREATE OR REPLACE TABLE latest AS {Query.load('serve/latest').text}")
        for view in VIEWS:
            con.execute(f"CREATE OR REPLACE VIEW {view} AS {Query.load(f'serve/view_{view}').text}")
        query, span = Query.load("serve/published_session"), {"start": start, "end": end}
        con.execute(f"CREATE TABLE IF NOT EXISTS published_session AS {query.text} LIMIT 0", span)
        con.execute("DELETE FROM published_session WHERE as_of BETWEEN $start AND $end", span)
        con.execute(f"INSERT INTO published_session BY NAME {query.text}", span)
        total = "sha256(string_agg(CAST(as_of AS VARCHAR) || digest, chr(10) ORDER BY as_of))"
        digest: str = con.execute(f"SELECT {total} FROM published_session").fetchall()[0][0]
    return digest


def _create_table(con: duckdb.DuckDBPyConnection, name: str, **params: Any) -> None:
    con.execute(f"CREATE OR REPLACE TABLE {CATALOGUE}.{name} AS {Query.load(f'serve/{name}').text}", params)


def _insert(con: duckdb.DuckDBPyConnection, name: str, start: date, end: date) -> None:
    text = Query.load(f"serve/{name}").text
    con.execute(f"INSERT INTO {CATALOGUE}.{name} BY NAME {text}", {"start": start, "end": end})


def card_rows(model_card: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the parameters of serve/model_card: the facts' names, and each as JSON text."""
    return {"keys": list(model_card), "values": [_json(value) for value in model_card.values()]}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)


@contextmanager
def _in_use(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Let unqualified names mean the attached file's: a view keeps them as they are written."""
    store = con.execute("SELECT current_database()").fetchall()[0][0]
    con.execute(f"USE {CATALOGUE}")
    try:
        yield
    finally:
        con.execute(f"USE {store}")


@contextmanager
def _transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    con.execute("BEGIN TRANSACTION")
    try:
        yield
        con.execute("COMMIT")
    except BaseException:
        with suppress(duckdb.Error):  # a failed COMMIT has already rolled back
            con.execute("ROLLBACK")
        raise
