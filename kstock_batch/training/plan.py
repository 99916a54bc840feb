"""What a retrain would do, and about how long it would take: rows, folds, members."""

from dataclasses import dataclass
from datetime import date
from typing import Any

import duckdb
import numpy as np

from kstock_batch.learners.members import MEMBER_NAMES, absence
from kstock_batch.settings import Settings
from kstock_batch.store.queries import Query
from kstock_batch.training.dataset import LabelledRows, labelled_rows
from kstock_batch.training.fitting import members_here
from kstock_batch.training.manifest import span
from kstock_batch.training.retrain import folds_of
from kstock_batch.training.splits import Fold

SECONDS_A_MILLION = 75.0  # of windows learnt from, over all fits: measured on the panel with 2 cores


@dataclass(frozen=True)
class Plan:
    """A retrain that has not begun.

    Attributes
    ----------
    training : first and last session, sessions and windows
    folds : the same of the training and the test part of each fold
    members : who would be trained
    warning : who would not, and why
    n_windows_fitted : windows of all fits together
    minutes : estimate
    estimated_from : which figures
    """

    as_of: date
    training: dict[str, Any]
    folds: list[dict[str, Any]]
    members: tuple[str, ...]
    warning: str | None
    n_windows_fitted: int
    minutes: float
    estimated_from: str


def plan_retrain(con: duckdb.DuckDBPyConnection, settings: Settings, as_of: date) -> Plan:
    """Return what ``retrain`` would do on the night of ``as_of``; raises what it would raise for want of data."""
    rows = labelled_rows(con, as_of, n_sessions=settings.train_sessions)
    folds, members = folds_of(len(rows.sessions), settings), members_here()
    fitted = _fitted(rows, folds)
    seconds, source = _seconds_a_million(con)
    return Plan(
        as_of=as_of,
        training=span(rows, np.arange(len(rows.sessions))),
        folds=[{"train": span(rows, fold.train), "test": span(rows, fold.test)} for fold in folds],
        members=members,
        warning=absence(MEMBER_NAMES, members, "trained"),
        n_windows_fitted=fitted,
        minutes=round(fitted / 1e6 * seconds / 60, 1),
        estimated_from=source,
    )


def _fitted(rows: LabelledRows, folds: tuple[Fold, ...]) -> int:
    return len(rows.ends) + sum(len(rows.chosen(fold.train)) for fold in folds)


def _seconds_a_million(con: duckdb.DuckDBPyConnection) -> tuple[float, str]:
    """Return the seconds for a million windows: of the newest retrain in the ledger, else of a known machine."""
    found = Query.load("reports/retrain_pace").rows(con)
    if not found:
        return SECONDS_A_MILLION, "figures of a machine with 2 cores"
    row = found[0]
    return float(row["seconds"]) / float(row["n_windows"]) * 1e6, f"run {row['run_id']}"
