"""A night's verdict: what it knows of the predictions served before it is gathered, judged and kept."""

import json
from datetime import date

import duckdb

from kstock_batch.judging.drift import DriftLimits, judge_drift, sessions_judged
from kstock_batch.judging.drift_verdict import DriftVerdict
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse

AUDITED = 5  # sessions whose drift audits are counted: one bad day of the market is no other world


def give_verdict(warehouse: Warehouse, run: Run, *, as_of: date, model_version: str) -> DriftVerdict:
    """Return the verdict of the night ``as_of`` on its champion and make it that night's row of ``drift``."""
    con, limits = warehouse.con, DriftLimits()
    served = Query.load("judging/served_card").frame(con, as_of=as_of, n=limits.n_sessions)
    cards = sessions_judged(served, model_version, limits)
    sessions = cards["as_of"].to_list()
    start = sessions[0] if sessions else as_of
    forecasts = Query.load("judging/forecast").frame(con, start=start, sessions=sessions)
    warned = Query.load("judging/warned_feature").frame(con, as_of=as_of, n=AUDITED)["n_offending"].to_list()
    verdict = judge_drift(as_of, model_version, cards, forecasts, warned, limits=limits)
    with warehouse.transaction():
        _keep(con, verdict, run)
    return verdict


def _keep(con: duckdb.DuckDBPyConnection, verdict: DriftVerdict, run: Run) -> None:
    """Replace the night's row, within a transaction of the caller's; a past night's stays what it could know."""
    later = con.execute("SELECT count(*) FROM drift WHERE as_of > $as_of", {"as_of": verdict.as_of}).fetchall()
    if later[0][0]:
        return
    con.execute("DELETE FROM drift WHERE as_of = $as_of", {"as_of": verdict.as_of})
    con.execute(
        "INSERT INTO drift VALUES ($as_of, $model_version, $state, $sentence, $n_sessions, $first_session,"
        " $last_session, $checks, $run_id, $judged_at)",
        {
            **{name: value for name, value in vars(verdict).items() if name != "checks"},
            "state": verdict.state,
            "sentence": verdict.sentence,
            "checks": json.dumps([check.row() for check in verdict.checks], allow_nan=False, ensure_ascii=False),
            "run_id": run.run_id,
            "judged_at": run.started_at,
        },
    )
