"""A backtest from end to end: plan, export, walk, judge, store. The store is held for seconds at both ends only."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

import duckdb
import polars as pl

from kstock_batch import __version__
from kstock_batch.backtest.assembled import assemble
from kstock_batch.backtest.costs import Costs
from kstock_batch.backtest.market import Market
from kstock_batch.backtest.material import BYTES_A_ROW, export_rows, finish
from kstock_batch.backtest.plan import DECIDING, UNHURRIED, History, Plan, plan_of, refits_of
from kstock_batch.backtest.results import Results, results_of
from kstock_batch.backtest.stored import remove_results, require_stored, store_results
from kstock_batch.backtest.walk import Progress, WalkFolder, walk
from kstock_batch.errors import NotEnoughHistory, WarehouseLocked
from kstock_batch.executors import Executor
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.features.sessions import session_days
from kstock_batch.learners.inputs import INPUTS_VERSION
from kstock_batch.market.contract import MAX_WINDOW_SPAN, fingerprint
from kstock_batch.market.sessions import Sessions
from kstock_batch.settings import Settings
from kstock_batch.store.faults import folder_faults_are_named
from kstock_batch.store.ledger import Run, opened_run
from kstock_batch.store.lock import lock_holder, release_lock, take_lock
from kstock_batch.store.provenance import library_versions
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse
from kstock_batch.training.fitting import members_here
from kstock_batch.training.tuned import tuned_parameters

PATIENCE_S, ASK_AGAIN_S = 1800.0, 5.0  # of waiting for whoever writes the store
# Of windows learnt from, over all fits, measured on the panel: one core, trees and LSTM.
PROCESSOR_SECONDS_A_MILLION = 110.0
BYTES_A_REFIT = 25e6

Note = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Asked:
    """What somebody wants to have walked; ``until`` None = the newest session whose outcome is known."""

    since: date
    until: date | None = None
    refit: str = "quarterly"
    folds: str = "walk"


@dataclass(frozen=True)
class Prepared:
    """A plan, where its files are, and what is still to be built of them.

    Attributes
    ----------
    material : the folder that refits read
    building : the exported rows that it is to be made of, None where it is there or not needed
    n_rows : rows of features that refits can reach
    n_windows : that all its fits learn from, together
    """

    plan: Plan
    folder: WalkFolder
    material: Path
    building: Path | None
    n_rows: int
    n_windows: int

    @property
    def n_waiting(self) -> int:
        """Return how many refits are not finished."""
        return sum(not self.folder.is_finished(refit) for refit in self.plan.refits)

    def minutes(self, n_cores: int) -> float:
        """Return about how long the whole plan takes on so many cores."""
        return self.n_windows / 1e6 * PROCESSOR_SECONDS_A_MILLION / 60 / n_cores

    @property
    def disk_mb(self) -> float:
        """Return about how much disk it takes while it runs."""
        return (self.n_rows * BYTES_A_ROW + len(self.plan.refits) * BYTES_A_REFIT) / 1e6


def planned(con: duckdb.DuckDBPyConnection, settings: Settings, asked: Asked) -> Prepared:
    """Return the plan for what the store holds; reads only."""
    rows = Query.load("backtest/history").frame(con)
    outcomes = [(session, known_on) for session, _, _, known_on in rows.rows() if known_on is not None]
    if not outcomes:
        raise NotEnoughHistory("no outcome is known", fix="ingest a longer history, then run `kstock-batch features`")
    history = History(rows["session"].to_list(), outcomes)
    until = asked.until or outcomes[-1][0]
    refits = refits_of(history, settings, since=asked.since, until=until, refit=asked.refit, folds=asked.folds)
    reach = history.known(refits[0].as_of, settings.train_sessions)[0]
    start = Sessions(session_days(con)).back(reach, MAX_WINDOW_SPAN - 1)
    data = Query.load("backtest/fingerprint").rows(con, start=start, end=refits[-1].last)[0]
    tuned = {refit.key: tuned_parameters(settings.models, refit.as_of) for refit in refits}
    facts = {
        "settings": {**{name: getattr(settings, name) for name in DECIDING}, **UNHURRIED},
        "members": list(members_here()),
        "tuned": {key: found for key, found in tuned.items() if found},
        "data": data["fingerprint"],
        "start": start,
        "contract": [fingerprint(), INPUTS_VERSION],
        "program": __version__,
        "libraries": library_versions(),
    }
    plan = plan_of(refits, asked.refit, asked.folds, facts)
    material = settings.warehouse / "backtest" / f"rows-{data['fingerprint'][:12]}"
    usual = rows.filter(pl.col("session").is_between(start, until))["n_scoreable"].mean()
    fits = sum(refit.n_sessions * (1 + refit.n_fitted * (1 - settings.validation_share)) for refit in refits)
    n_windows = int(fits * (usual if isinstance(usual, float) else 0.0))
    return Prepared(
        plan, WalkFolder.of(settings.warehouse, plan.backtest_id), material, None, data["n_rows"], n_windows
    )


def prepare(settings: Settings, asked: Asked, *, at: datetime, note: Note) -> Prepared:
    """Bring features up to date, plan, and write the rows that refits need to files; the store is let go of then."""
    with patient_run(settings, at=at, note=note) as run:
        bring_up_to_date(run.warehouse, settings, run)
        found = planned(run.warehouse.con, settings, asked)
        building = None
        if found.n_waiting:
            with run.stage("export rows") as stage:
                start, end = date.fromisoformat(str(found.plan.facts["start"])), found.plan.last
                _clear_rows(found.material)
                building = export_rows(run.warehouse.con, found.material, start=start, end=end)
                stage.n_rows = found.n_rows
        run.summary = f"prepared {found.plan.backtest_id}: {found.n_waiting} of {len(found.plan.refits)} refits to do"
    return Prepared(found.plan, found.folder, found.material, building, found.n_rows, found.n_windows)


def _clear_rows(needed: Path) -> None:
    """Delete rows that an abandoned backtest has left: gigabytes that nobody would find."""
    for left in (*needed.parent.glob("rows-*"), *needed.parent.glob(".building-rows-*")):
        if left != needed:
            shutil.rmtree(left, ignore_errors=True)


def walked(prepared: Prepared, executor: Executor, *, threads: int) -> Iterator[Progress]:
    """Do every refit that is not finished, and tell of each; the rows are deleted once none is left to do."""
    plan, folder = prepared.plan, prepared.folder
    folder.begin(plan)
    if not prepared.n_waiting:
        return
    if prepared.building is not None:
        finish(prepared.building, prepared.material)
    yield from walk(plan, folder, prepared.material, executor, threads=threads)


def judged(settings: Settings, prepared: Prepared, costs: Costs, *, note: Note) -> Results:
    """Return what the finished walk comes to, by what the store knows today of outcomes and prices."""
    plan, folder = prepared.plan, prepared.folder
    with _patient(lambda: Warehouse.read(settings), note) as warehouse:
        con = warehouse.con
        outcomes = Query.load("backtest/outcome").frame(con, start=plan.first, end=plan.last)
        every = Sessions(session_days(con))
        bars = Query.load("backtest/bar").frame(
            con, start=every.back(plan.first, 2 * MAX_WINDOW_SPAN), end=every.days[-1], basis=settings.price_basis
        )
        listing = con.sql("SELECT ticker, market, last_seen FROM listing ORDER BY ticker").pl()
    assembled = [assemble(plan, folder, settings, number, outcomes) for number in range(len(plan.refits))]
    return results_of(assembled, Market.of(bars, listing, every.days), costs)


def kept(settings: Settings, prepared: Prepared, costs: Costs, results: Results, *, at: datetime, note: Note) -> None:
    """Write the results into the store, and delete the rows that no refit needs any more."""
    with patient_run(settings, at=at, note=note) as run:
        store_results(run, prepared.plan, costs, results)
        run.summary = f"stored {prepared.plan.backtest_id}: {results.predictions.height:,} predictions"
    shutil.rmtree(prepared.material, ignore_errors=True)


@contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Keep every other backtest of the root out: it would clear away what this one is writing."""
    path = settings.warehouse / "backtest" / "walk.lock"
    with folder_faults_are_named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = take_lock(path)
        except WarehouseLocked as error:
            raise WarehouseLocked(
                f"another backtest walks in {path.parent}, {lock_holder(path)}",
                fix="wait for it to finish, or stop it: what it finished is kept",
            ) from error
    try:
        yield
    finally:
        release_lock(lock, is_writer=True)


@contextmanager
def patient_run(settings: Settings, *, at: datetime, note: Note) -> Iterator[Run]:
    """Open a run of the store as soon as whoever writes it is done."""
    with ExitStack() as stack:
        yield _patient(lambda: stack.enter_context(opened_run(settings, "backtest", at=at)), note)


def _patient(open_store: Callable[[], T], note: Note) -> T:
    told, began = False, monotonic()
    while True:
        try:
            return open_store()
        except WarehouseLocked as error:
            if monotonic() - began > PATIENCE_S:
                raise WarehouseLocked(error.what, fix="run the same command again: what is finished is kept") from error
            if not told:
                note(f"waiting: {error.what}")
            told = True
            sleep(ASK_AGAIN_S)


def removed(settings: Settings, backtest_id: str, *, at: datetime, note: Note) -> str:
    """Delete a backtest from the store and its folder; return its name."""
    with only_one(settings), patient_run(settings, at=at, note=note) as run:
        name = str(require_stored(run.warehouse.con, backtest_id)["backtest_id"])
        with run.warehouse.transaction() as con:
            remove_results(con, name)
        run.summary = f"removed {name}"
    shutil.rmtree(WalkFolder.of(settings.warehouse, name).path, ignore_errors=True)
    (settings.warehouse / "backtest" / f"{name}.html").unlink(missing_ok=True)
    return name
