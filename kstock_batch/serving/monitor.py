"""What an operator asks first: what is published, how old is it, who made it, what ran last."""

from datetime import datetime
from typing import Any

from kstock_batch.bot.reader import PredictionReader
from kstock_batch.errors import KStockError
from kstock_batch.registry import Registry
from kstock_batch.serving.ask import ask
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import lock_holder

LAST_RUNS = (
    "SELECT run_id, command, as_of, status, started_at, finished_at, coalesce(error, summary) AS told"
    " FROM run ORDER BY started_at DESC LIMIT 8"
)


def status_rows(settings: Settings, *, now: datetime) -> dict[str, Any]:
    """Return facts by name; what cannot be read is said in its place, because a status must always answer."""
    facts: dict[str, Any] = {
        "root": settings.root.resolve(),
        "store": _store(settings),
        "writer": lock_holder(settings.store.with_suffix(".lock")) or "none",
        "champion": _champion(settings),
    }
    try:
        reader = PredictionReader(settings.published, max_age_sessions=settings.max_age_sessions, clock=lambda: now)
        found = reader.status()
        facts["publication"] = found
        facts["runs"] = ask(settings.published, LAST_RUNS, limit=8).rows
    except KStockError as error:
        facts |= {"publication": error.what, "runs": []}
    return facts


def _store(settings: Settings) -> str:
    if not settings.store.exists():
        return "none yet: run `kstock-batch demo` or `kstock-batch ingest files DIR`"
    return f"{settings.store} ({settings.store.stat().st_size / 1e6:,.1f} MB)"


def _champion(settings: Settings) -> str:
    try:
        version = Registry(settings.models).champion()
    except KStockError as error:
        return error.what
    blend = version.manifest["metrics"]["blend"]
    return f"{version.version} as-of {version.manifest['as_of']}, AUC in session {blend['auc_day']:.3f} out of sample"
