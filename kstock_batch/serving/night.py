"""A night: features up to date, the sessions that are due scored in order, one publication if it says anything new."""

from dataclasses import dataclass, field
from datetime import date
from typing import Any

from kstock_batch.champion import Champion
from kstock_batch.errors import AuditFailed, DataNotReady, PublicationGated
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.registry import ModelVersion, Registry
from kstock_batch.serving.agenda import Agenda, agenda_asked, agenda_tonight, is_no_session
from kstock_batch.serving.content import is_published
from kstock_batch.serving.publish import publish
from kstock_batch.serving.score import Scored, score_session
from kstock_batch.settings import Settings
from kstock_batch.store.audits import AuditResult
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse


@dataclass(frozen=True)
class Night:
    """What a run of ``score`` came to.

    Attributes
    ----------
    as_of : the session it was for, or the day that is none
    model_version : None on a day that is no session
    is_published : whether a new publication was made; the one before says all there is to say otherwise
    """

    as_of: date
    model_version: str | None
    summary: str
    scored: list[Scored] = field(default_factory=list)
    n_published: int = 0
    is_published: bool = False
    warnings: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return JSON values."""
        sessions = [
            {"as_of": s.as_of, "n_scored": s.n_scored, "n_bars": s.n_bars, "degraded_why": s.degraded_why}
            | {"gates": [{"gate": g.name, "is_passed": g.is_passed, "told": str(g)} for g in s.gates]}
            for s in self.scored
        ]
        return {
            "as_of": self.as_of,
            "model_version": self.model_version,
            "sessions": sessions,
            "n_published": self.n_published,
            "is_published": self.is_published,
            "warnings": self.warnings,
            "summary": self.summary,
        }


def score_nights(
    warehouse: Warehouse,
    settings: Settings,
    run: Run,
    *,
    since: date | None,
    as_of: date | None,
    force: bool = False,
    accept_degraded: bool = False,
) -> Night:
    """Score every session in [since, as_of] (default: the newest, after those missed before it) and publish.

    A session that the same model has already scored from the same features is left as it is, and a publication that
    would say what the last one says is not made: only ``force`` does either again.
    """
    if as_of and not since and is_no_session(warehouse.con, as_of, run.started_at):
        return Night(as_of, None, f"skipped: {as_of} is no session of the exchange")
    champion = Champion.load(Registry(settings.models).champion())
    bring_up_to_date(warehouse, settings, run)
    if since or as_of:
        agenda = agenda_asked(warehouse.con, settings, since, as_of)
    else:
        agenda = agenda_tonight(warehouse.con, settings, champion.version, run.started_at)
    run.as_of = agenda.as_of
    left_out, scored = dict(agenda.left_out), []
    asked = [day for day in agenda.asked if force or not _is_scored(warehouse, champion.version, day)]
    for day in agenda.missed + asked:
        try:
            scored.append(score_session(warehouse, settings, run, day, champion, accept_degraded=accept_degraded))
        except (AuditFailed, DataNotReady, PublicationGated) as error:
            if day not in agenda.missed:
                raise
            left_out[day] = error.what  # what was missed must not cost the bot tonight's session too
    n_published = _publish(warehouse, settings, run, champion.version, always=bool(scored))
    summary = _summary(agenda, scored, champion.version.version, is_published=n_published > 0)
    warnings = [*filter(None, [champion.warning]), *_warnings(agenda, left_out, scored)]
    return Night(
        agenda.as_of,
        champion.version.version,
        summary,
        scored,
        n_published,
        is_published=n_published > 0,
        warnings=warnings,
    )


def _publish(warehouse: Warehouse, settings: Settings, run: Run, champion: ModelVersion, *, always: bool) -> int:
    """Publish everything predicted so far and return how much that is; 0 = the last publication says it already."""
    card = _card(_version_of_newest(warehouse, settings, champion))
    if not always and is_published(warehouse.con, settings.published, card):
        return 0
    with run.stage("publish") as stage:
        publication = publish(
            warehouse, settings.published, run_id=run.run_id, published_at=run.started_at, model_card=card
        )
        stage.n_rows = publication.n_predictions
    return publication.n_predictions


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


def _warnings(agenda: Agenda, left_out: dict[date, str], scored: list[Scored]) -> list[str]:
    """Return what somebody should know of a night that went less well than it might have."""
    told = [f"missed session {day} is left out: {why}" for day, why in sorted(left_out.items())]
    if agenda.n_older:
        told.append(
            f"{agenda.n_older} sessions missed before those stay so: catch_up_sessions reaches no further,"
            " `kstock-batch score --from DATE` does"
        )
    told.extend(f"{s.as_of} is published degraded: {s.degraded_why}" for s in scored if s.degraded_why)
    return told + [_warning(s, a) for s in scored[-1:] for a in s.audits if a.n_offending]


def _warning(scored: Scored, audit: AuditResult) -> str:
    sample = ", ".join(str(tuple(row.values())) for row in audit.sample)
    return f"audit {audit.audit} as-of {scored.as_of}: {audit.n_offending} rows, e.g. {sample}"


def _summary(agenda: Agenda, scored: list[Scored], version: str, *, is_published: bool) -> str:
    if not scored:
        return _nothing_due(agenda, version, is_published=is_published)
    n_scored, n_bars = sum(s.n_scored for s in scored), sum(s.n_bars for s in scored)
    newest = scored[-1].as_of
    span = f"as-of {newest}" if len(scored) == 1 else f"of {len(scored)} sessions, newest as-of {newest},"
    degraded = ", degraded" if any(s.degraded_why for s in scored) else ""
    return f"scored {n_scored:,} of {n_bars:,} stocks {span} with {version}{degraded}"


def _nothing_due(agenda: Agenda, version: str, *, is_published: bool) -> str:
    """Say why there was nothing to score, and whether there should have been."""
    skipped = f"skipped: {agenda.day_off} is no session of the exchange; " if agenda.day_off else ""
    behind = f"; {agenda.n_behind} later sessions have no prices yet" if agenda.n_behind > 1 else ""
    if agenda.n_behind == 1:
        behind = "; the session after it has no prices yet"
    told = "published again" if is_published else "nothing changed"
    return f"{skipped}already scored as-of {agenda.as_of} with {version}; {told}{behind}"
