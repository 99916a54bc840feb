"""A night: features up to date, the sessions that are due scored in order, one publication if it says anything new."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any

from kstock_batch.champion import Champion
from kstock_batch.errors import AuditFailed, DataNotReady, ModelRefused, PublicationGated
from kstock_batch.features.build import bring_up_to_date
from kstock_batch.features.sessions import price_range
from kstock_batch.judging.drift_verdict import DriftVerdict
from kstock_batch.judging.outcomes import judge_due_sessions
from kstock_batch.judging.verdicts import give_verdict
from kstock_batch.registry import ModelVersion, Registry
from kstock_batch.serving.night.agenda import Agenda, agenda_asked, agenda_tonight, days_off
from kstock_batch.serving.night.night_told import beside, warnings, what_was_done
from kstock_batch.serving.night.score import Scored, score_session
from kstock_batch.serving.night.session_windows import WindowsAhead
from kstock_batch.serving.publication.news import is_published
from kstock_batch.serving.publication.publish import Publication, publish
from kstock_batch.serving.targets.delivery import Deliveries, deliver
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import Warehouse

CARD = ("version", "as_of", "fingerprint", "base_rate", "training", "judged", "weights", "metrics", "features")


@dataclass(frozen=True)
class Night:
    """What a run of ``score`` came to.

    Attributes
    ----------
    as_of : the session it was for, or the last of the days that are none
    model_version : None on days that are no session
    did, beside : what was done, and what else is to be told of it
    published : the new publication; None = the one before says all there is to say
    """

    as_of: date
    model_version: str | None
    did: str
    beside: str = ""
    scored: list[Scored] = field(default_factory=list)
    published: Publication | None = None
    targets: Deliveries = field(default_factory=Deliveries)
    warnings: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """Return the night in one sentence."""
        return self.did + self.beside

    def told(self, seconds: float) -> str:
        """Return the sentence with how long the scoring took, if anything was scored."""
        return f"{self.did} in {seconds:.1f} s{self.beside}" if self.scored else self.summary

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
            "n_published": self.published.n_predictions if self.published else 0,
            "is_published": self.published is not None,
            "ended_rollback": vars(self.published.went_back) if self.published and self.published.went_back else None,
            "targets": self.targets.rows(),
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
    if off := days_off(warehouse.con, since, as_of, run.started_at):
        return Night(off.end, None, f"skipped: {off}")
    champion = Champion.load(Registry(settings.models).champion())
    version = champion.version
    bring_up_to_date(warehouse, settings, run)
    if since or as_of:
        agenda = agenda_asked(warehouse.con, settings, since, as_of)
    else:
        agenda = agenda_tonight(warehouse.con, settings, version, run.started_at)
    run.as_of = agenda.as_of
    due = [day for day in agenda.asked if force or not _is_scored(warehouse, version, day)]
    windows = WindowsAhead(warehouse.con, [*agenda.missed, *due])
    score = partial(
        score_session,
        *(warehouse, settings, run),
        champion=champion,
        read_windows=windows.read,
        accept_degraded=accept_degraded,
    )
    scored, left_out = _caught_up(agenda, score)
    try:
        scored += [score(day) for day in due]
    except (AuditFailed, DataNotReady, PublicationGated):
        _judged(warehouse, settings, run, agenda.as_of, version)  # what matured owes nothing to tonight
        raise
    n_judged, drift = _judged(warehouse, settings, run, agenda.as_of, version)
    published = _publish(warehouse, settings, run, version, always=bool(scored) or n_judged > 0)
    targets = deliver(settings, run)
    return Night(
        *(agenda.as_of, version.version),
        did=what_was_done(agenda, scored, version.version, is_published=published is not None),
        beside=beside(scored, published) + targets.told(),
        scored=scored,
        published=published,
        targets=targets,
        warnings=[*filter(None, [champion.warning]), *warnings(agenda, left_out, scored, drift)],
    )


def _caught_up(agenda: Agenda, score: Callable[[date], Scored]) -> tuple[list[Scored], dict[date, str]]:
    """Return the missed sessions that were scored, and why the others are left out."""
    scored, left_out = [], dict(agenda.left_out)
    for day in agenda.missed:
        try:
            scored.append(score(day))
        except (AuditFailed, DataNotReady, PublicationGated) as error:
            left_out[day] = error.what  # what was missed must not cost the bot tonight's session too
    return scored, left_out


def _judged(
    warehouse: Warehouse, settings: Settings, run: Run, as_of: date, version: ModelVersion
) -> tuple[int, DriftVerdict]:
    """Judge the sessions that matured; return how many predictions that were, and the night's verdict on drift."""
    with run.stage("outcomes") as stage:
        _, known_through = price_range(warehouse.con, settings.price_basis)
        stage.n_rows = judge_due_sessions(warehouse, run, known_through=known_through, basis=settings.price_basis)
        drift = give_verdict(warehouse, run, as_of=as_of, model_version=version.version)
    return stage.n_rows, drift


def _publish(
    warehouse: Warehouse, settings: Settings, run: Run, champion: ModelVersion, *, always: bool
) -> Publication | None:
    """Publish everything predicted so far; None = the last publication says it already."""
    card = _card(warehouse, settings, champion)
    if not always and is_published(warehouse.con, settings.published, card):
        return None
    with run.stage("publish") as stage:
        publication = publish(
            *(warehouse, settings.published),
            run_id=run.run_id,
            published_at=run.started_at,
            model_card=card,
            generations=settings.generations,
        )
        stage.n_rows = publication.n_predictions
    return publication


def _is_scored(warehouse: Warehouse, version: ModelVersion, as_of: date) -> bool:
    query = Query.load("serve/is_scored")
    found = query.frame(
        warehouse.con, as_of=as_of, model_version=version.version, fingerprint=version.manifest["fingerprint"]
    )
    return bool(found.row(0)[0])


def _card(warehouse: Warehouse, settings: Settings, champion: ModelVersion) -> dict[str, Any]:
    """Return what is published of the newest predictions' model: an older session may have been scored after them.

    Of one that was pruned or damaged since only the name is left, which is no reason to publish nothing.
    """
    (newest,) = warehouse.con.execute("SELECT model_version FROM prediction ORDER BY as_of DESC LIMIT 1").fetchall()[0]
    try:
        manifest = champion.manifest if newest == champion.version else Registry(settings.models).get(newest).manifest
    except ModelRefused:
        manifest = {"version": newest}
    return {name: manifest[name] for name in CARD if name in manifest}
