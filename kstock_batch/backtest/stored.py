"""Backtests in the store: written whole in one transaction, read as rows."""

import json
from collections.abc import Sequence
from typing import Any

import duckdb
import polars as pl

from kstock_batch.backtest.costs import Costs
from kstock_batch.backtest.plan import Plan
from kstock_batch.backtest.results import Results
from kstock_batch.errors import DataNotReady
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import insert_rows

TABLES = {
    "backtest": "",
    "backtest_refit": "refit",
    "backtest_prediction": "as_of, ticker",
    "backtest_session": "variant, as_of",
    "backtest_decile": "variant, scope, decile",
    "backtest_metric": "variant, scope, metric",
    "backtest_portfolio": "portfolio, as_of",
}


def store_results(run: Run, plan: Plan, costs: Costs, results: Results) -> None:
    """Make the store hold exactly these results of the backtest."""
    whole = pl.DataFrame(
        {
            "first_session": plan.first,
            "last_session": plan.last,
            "refit": plan.refit,
            "n_refits": len(plan.refits),
            "n_predictions": results.predictions.height,
            "settings": json.dumps(plan.facts["settings"] | {"folds": plan.folds}),
            "costs": json.dumps(costs.as_json()),
            "fingerprint": plan.facts["data"],
            "seconds": float(results.refits["seconds"].sum()),
            "run_id": run.run_id,
            "made_at": run.started_at,
        }
    )
    frames = (whole, results.refits, results.predictions, results.sessions, results.deciles, results.metrics)
    with run.warehouse.transaction() as con:
        _delete(con, plan.backtest_id)
        for (table, order), rows in zip(TABLES.items(), (*frames, results.portfolios), strict=True):
            named = rows.with_columns(backtest_id=pl.lit(plan.backtest_id))
            insert_rows(con, table, named, order=order or None)


def remove_results(con: duckdb.DuckDBPyConnection, backtest_id: str) -> None:
    """Delete all that the store holds of the backtest, within a transaction of the caller's."""
    _delete(con, backtest_id)


def stored_backtests(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Return one row a backtest, the newest first, with its main figures."""
    return Query.load("backtest/list").rows(con)


def require_stored(con: duckdb.DuckDBPyConnection, backtest_id: str | None) -> dict[str, Any]:
    """Return the backtest (None = the newest), or say which there are; the beginning of a name is enough."""
    rows = stored_backtests(con)
    found = [row for row in rows if backtest_id is None or row["backtest_id"].startswith(backtest_id)]
    if backtest_id is None and found:
        return found[0]
    exact = [row for row in found if row["backtest_id"] == backtest_id] or found
    if len(exact) != 1:
        what = "no backtest is stored" if not rows else f"{len(exact)} backtests begin with {backtest_id!r}"
        raise DataNotReady(
            what,
            fix="run `kstock-batch backtest run`"
            if not rows
            else f"name one of {_told([row['backtest_id'] for row in rows])}",
        )
    return exact[0]


def metric_rows(con: duckdb.DuckDBPyConnection, backtest_id: str) -> pl.DataFrame:
    """Return variant, scope, metric, value, low, high, n_sessions."""
    return Query.load("backtest/metric").frame(con, backtest_id=backtest_id)


def session_rows(con: duckdb.DuckDBPyConnection, backtest_id: str) -> pl.DataFrame:
    """Return the rows of backtest_session, oldest first."""
    return Query.load("backtest/session").frame(con, backtest_id=backtest_id)


def _delete(con: duckdb.DuckDBPyConnection, backtest_id: str) -> None:
    for table in TABLES:
        con.execute(f"DELETE FROM {table} WHERE backtest_id = $backtest_id", {"backtest_id": backtest_id})


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" … ({len(names)})" if len(names) > 5 else "")
