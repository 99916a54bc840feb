"""What an operator asks first: what is published, how old is it, who made it, what ran last."""

from datetime import datetime
from typing import Any

from kstock_batch.bot.reader import PredictionReader
from kstock_batch.errors import KStockError
from kstock_batch.registry import Registry
from kstock_batch.serving.ask import asked
from kstock_batch.settings import Settings
from kstock_batch.store.lock import lock_holder
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse

LAST_RUNS = 8


def status_rows(settings: Settings, *, now: datetime) -> dict[str, Any]:
    """Return facts by name; what cannot be read is said in its place, because a status must always answer."""
    found = PredictionReader(settings.published, settings.max_age_sessions, clock=lambda: now).status()
    facts: dict[str, Any] = {
        "root": settings.root.resolve(),
        "store": _store(settings),
        "writer": lock_holder(settings.store.with_suffix(".lock")) or "none",
        "champion": _champion(settings),
        "published_file": settings.published,
        "problem": found.problem,
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
        }
    return {**facts, "runs": _runs(settings)}


def _runs(settings: Settings) -> list[dict[str, Any]]:
    """Return the last runs: from the store, or while somebody writes it, those that the publication knows."""
    try:
        with Warehouse.read(settings) as warehouse:
            return Query.load("reports/last_runs").rows(warehouse.con, n=LAST_RUNS)
    except KStockError:
        statement = Query.load("reports/last_runs").text
    try:
        with asked(settings, statement, of_store=False, limit=LAST_RUNS, params={"n": LAST_RUNS}) as answer:
            return list(answer.rows())
    except KStockError:
        return []


def _store(settings: Settings) -> str:
    if not settings.store.exists():
        return "none yet: run `kstock-batch demo` or `kstock-batch ingest files DIR`"
    return f"{settings.store} ({settings.store.stat().st_size / 1e6:,.1f} MB)"


def _champion(settings: Settings) -> str:
    try:
        version = Registry(settings.models).champion()
    except KStockError as error:
        return error.what
    auc_day = version.manifest["metrics"]["blend"]["auc_day"]
    skill = "unknown" if auc_day is None else f"{auc_day:.3f}"  # None: no judged session had both outcomes
    return f"{version.version} as-of {version.manifest['as_of']}, AUC in session {skill} out of sample"
