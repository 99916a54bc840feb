"""A night: features up to date, the sessions asked for scored in order, one publication."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from kstock_batch.champion import Champion
from kstock_batch.errors import DataNotReady
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.features.sessions import session_asked, session_days
from kstock_batch.market.sessions import Sessions
from kstock_batch.registry import ModelVersion, Registry
from kstock_batch.serving.publish import publish
from kstock_batch.serving.score import Scored, score_session
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse


@dataclass(frozen=True)
class Night:
    """What a run of ``score`` came to."""

    as_of: date
    model_version: str
    scored: list[Scored]
    n_published: int
    warnings: list[str]
    summary: str

    def row(self) -> dict[str, Any]:
        """Return JSON values."""
        sessions = [{"as_of": s.as_of, "n_scored": s.n_scored, "n_bars": s.n_bars} for s in self.scored]
        return {
            "as_of": self.as_of,
            "model_version": self.model_version,
            "sessions": sessions,
            "n_published": self.n_published,
            "warnings": self.warnings,
            "summary": self.summary,
        }


def score_nights(
    warehouse: Warehouse, settings: Settings, run: Run, *, since: date | None, as_of: date | None, force: bool = False
) -> Night:
    """Score every session in [since, as_of] (default: the newest alone) and publish all predictions.

    A session that the same model has already scored from the same features is left as it is.
    """
    champion = Champion.load(Registry(settings.models).champion())
    bring_up_to_date(warehouse, settings, run)
    newest = run.as_of = session_asked(warehouse.con, as_of, settings.price_basis)
    asked = Sessions(session_days(warehouse.con)).between(since or newest, newest)
    if not asked:
        raise DataNotReady(f"there is no session in {since} … {newest}", fix="give a --from that is a trading day")
    due = [day for day in asked if force or not _is_scored(warehouse, champion.version, day)]
    scored = [score_session(warehouse, settings, run, day, champion) for day in due]
    with run.stage("publish") as stage:
        publication = publish(
            warehouse,
            settings.published,
            run_id=run.run_id,
            published_at=run.started_at,
            model_card=_card(_version_of_newest(warehouse, settings, champion.version)),
            generations=settings.generations,
        )
        stage.n_rows = publication.n_predictions
    return Night(
        as_of=newest,
        model_version=champion.version.version,
        scored=scored,
        n_published=publication.n_predictions,
        warnings=[
            *([champion.warning] if champion.warning else []),
            *(_warning(s, a) for s in scored[-1:] for a in s.audits if a.n_offending),
        ],
        summary=_summary(scored, newest, champion.version.version),
    )


def _is_scored(warehouse: Warehouse, version: ModelVersion, as_of: date) -> bool:
    query = Query.load("serve/is_scored")
    found = query.frame(
        warehouse.con, as_of=as_of, model_version=version.version, fingerprint=version.manifest["fingerprint"]
    )
    return bool(found.row(0)[0])


def _version_of_newest(warehouse: Warehouse, settings: Settings, champion: ModelVersion) -> ModelVersion:
    """Return the model of the newest predictions: an older session may have been scored after them."""
    newest = warehouse.con.execute("SELECT model_version FROM prediction ORDER BY as_of DESC LIMIT 1").fetchall()
    return champion if newest[0][0] == champion.version else Registry(settings.models).get(newest[0][0])


def _card(version: ModelVersion) -> dict[str, Any]:
    names = ("version", "as_of", "fingerprint", "base_rate", "training", "judged", "weights", "metrics", "features")
    return {name: version.manifest[name] for name in names}


def _warning(scored: Scored, audit: Any) -> str:
    sample = ", ".join(str(tuple(row.values())) for row in audit.sample)
    return f"audit {audit.audit} as-of {scored.as_of}: {audit.n_offending} rows, e.g. {sample}"


def _summary(scored: list[Scored], newest: date, version: str) -> str:
    if not scored:
        return f"already scored as-of {newest} with {version}; published again"
    n_scored, n_bars = sum(s.n_scored for s in scored), sum(s.n_bars for s in scored)
    span = f"as-of {newest}" if len(scored) == 1 else f"of {len(scored)} sessions, newest as-of {newest},"
    return f"scored {n_scored:,} of {n_bars:,} stocks {span} with {version}"
