"""What an operator asks first: what is published, how old is it, who made it, what ran last, what needs a person."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from kstock_batch.bot.reader import PredictionReader, PublicationStatus
from kstock_batch.errors import DataNotReady, KStockError, WarehouseLocked
from kstock_batch.judging.drift_verdict import DriftVerdict, newest_verdict, verdict_of
from kstock_batch.market.contract import fingerprint
from kstock_batch.registry import Registry, require_fingerprint, require_intact
from kstock_batch.serving.alerts import Refusals, Situation, alerts
from kstock_batch.serving.publication.generations import Generations, WentBack
from kstock_batch.serving.questions.ask import asked
from kstock_batch.serving.targets.delivery import lock_of_deliveries
from kstock_batch.serving.targets.record import DeliveryRecord
from kstock_batch.settings import Settings
from kstock_batch.store.lock import lock_holder
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse

_LAST_RUNS: dict[str, Any] = {"n": 8, "command": None, "failed": False}


def status_rows(settings: Settings, *, now: datetime) -> dict[str, Any]:
    """Return facts by name; what cannot be read is said in its place, because a status must always answer."""
    found = PredictionReader(settings.published, settings.max_age_sessions, clock=lambda: now).status()
    went_back, held = _went_back(settings), DeliveryRecord(settings.published).held()
    writer = lock_holder(settings.store.with_suffix(".lock"))
    champion, champion_problem = _champion(settings)
    history = _history(settings)
    situation = Situation(
        published=found,
        damage=_damage(settings, found),
        max_age_sessions=settings.max_age_sessions,
        champion_problem=champion_problem,
        runs=history.newest_runs,
        refusals=history.refusals,
        writer=writer,
        store_problem=history.problem,
        drift=history.drift,
        went_back=went_back,
        targets={name: held.get(name) for name in settings.targets},
        is_delivering=bool(writer or lock_holder(lock_of_deliveries(settings.published))),
    )
    facts: dict[str, Any] = {
        "root": settings.root.resolve(),
        "store": _store(settings),
        "writer": writer or "none",
        "champion": champion_problem.what if champion_problem else champion,
        "price_basis": settings.price_basis,
        "published_file": settings.published,
        "problem": found.problem or situation.damage,
    }
    if found.publication is not None:
        facts |= {
            "as_of": found.publication.as_of,
            "age_sessions": found.age_sessions,
            "is_stale": found.is_stale,
            "published_at": found.publication.published_at,
            "n_sessions": found.publication.n_sessions,
            "n_predictions": found.publication.n_predictions,
            "model_version": found.publication.model_version,
            "degraded_why": found.publication.degraded_why,
            "rolled_back_from": went_back and went_back.undone,
        }
    drift = history.drift.sentence if history.drift else "nothing was judged yet"
    return {**facts, "drift": drift, "alerts": alerts(situation), "runs": history.runs}


@dataclass(frozen=True)
class _History:
    """What was done and found.

    Attributes
    ----------
    runs, newest_runs : the last ones, newest first, and the newest of each command
    refusals : retrains that the gate refused since it let one pass
    drift : the newest verdict on what was served
    problem : why this is what the publication knows and not the store, unless somebody is writing that
    """

    runs: list[dict[str, Any]]
    newest_runs: list[dict[str, Any]]
    refusals: Refusals
    drift: DriftVerdict | None
    problem: KStockError | None = None


def _history(settings: Settings) -> _History:
    """Return what the store tells, or while it cannot be read, what the publication does."""
    try:
        with Warehouse.read(settings) as warehouse:
            runs = Query.load("reports/run_list").rows(warehouse.con, **_LAST_RUNS)
            newest_runs = Query.load("reports/newest_run").rows(warehouse.con)
            (refused,) = Query.load("reports/refused_retrain").rows(warehouse.con)
            return _History(runs, newest_runs, Refusals(**refused), newest_verdict(warehouse.con, date.max))
    except (DataNotReady, WarehouseLocked):  # nothing to read yet, or not now
        problem = None
    except KStockError as error:
        problem = error
    runs = _published(settings, "reports/run_list", **_LAST_RUNS)
    refusals = [Refusals(**refused) for refused in _published(settings, "reports/refused_retrain")]
    verdicts = _published(settings, "judging/newest_drift", as_of=date.max)
    return _History(
        runs,
        _published(settings, "reports/newest_run"),
        refusals[0] if refusals else Refusals(),
        verdict_of(verdicts[0]) if verdicts else None,
        problem,
    )


def _published(settings: Settings, name: str, **params: Any) -> list[dict[str, Any]]:
    """Return the rows of a statement whose tables the publication has too; none if it cannot say."""
    statement = Query.load(name).text
    try:
        with asked(settings, statement, of_store=False, limit=None, params=params) as answer:
            return list(answer.rows())
    except KStockError:
        return []


def _damage(settings: Settings, found: PublicationStatus) -> str | None:
    """Return what is wrong with blocks of the publication that a reader of its newest session does not touch."""
    return Generations(settings.published).damage(found.publication.run_id) if found.publication else None


def _went_back(settings: Settings) -> WentBack | None:
    with suppress(OSError):  # a job deletes an old one meanwhile, or the folder is not ours to read
        return Generations(settings.published).went_back()
    return None


def _store(settings: Settings) -> str:
    if not settings.store.exists():
        return "none yet: run `kstock-batch demo` or `kstock-batch ingest files DIR`"
    return f"{settings.store} ({settings.store.stat().st_size / 1e6:,.1f} MB)"


def _champion(settings: Settings) -> tuple[str, KStockError | None]:
    """Return a line about the version that serves, and the error that says why none can, or None."""
    try:
        version = Registry(settings.models).champion()
        require_fingerprint(version, fingerprint())
        require_intact(version)
    except KStockError as error:
        return "none", error
    auc_day = version.manifest["metrics"]["blend"]["auc_day"]
    skill = "unknown" if auc_day is None else f"{auc_day:.3f}"  # None: no judged session had both outcomes
    return f"{version.version} as-of {version.manifest['as_of']}, AUC in session {skill} out of sample", None
