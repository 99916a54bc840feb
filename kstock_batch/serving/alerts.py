"""Alerts: what a person should hear about what is served, one sentence each.

``fail`` means that what the bot reads is missing, old, made by a model that has drifted, or was not renewed last night;
``warn`` that it may come to that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from kstock_batch.bot.reader import PublicationStatus
from kstock_batch.judging.drift_verdict import DriftVerdict
from kstock_batch.serving.publication.generations import WentBack
from kstock_batch.serving.targets.record import Held

SEVERITIES = ("fail", "warn")
NIGHTLY = "score"  # the command whose failure means that tonight's predictions are missing


@dataclass(frozen=True)
class Alert:
    """One thing that stands; ``severity`` is fail or warn."""

    name: str
    severity: str
    sentence: str

    def row(self) -> dict[str, str]:
        """Return it as a row to print or to store."""
        return asdict(self)


@dataclass(frozen=True)
class Situation:
    """Everything alerts are told from.

    Attributes
    ----------
    published : what a reader makes of the published file
    damage : what it did not notice because it had no need to read there, or None
    max_age_sessions : older is stale
    champion_problem : why there is no model to score with, or None
    runs : the newest run of each command: what failed and was then done is over
    writer : who holds the store's lock, or None
    store_problem : why the store cannot be read, or None; that somebody writes it is none
    drift : the newest verdict on what was served, or None
    went_back : that an older publication than the newest is in place, or None
    targets : what each target of the settings holds; None = nothing was ever delivered to it
    is_delivering : whether somebody may be about to write to them
    """

    published: PublicationStatus
    damage: str | None
    max_age_sessions: int
    champion_problem: str | None
    runs: Sequence[Mapping[str, Any]]
    writer: str | None
    store_problem: str | None
    drift: DriftVerdict | None
    went_back: WentBack | None = None
    targets: Mapping[str, Held | None] = field(default_factory=dict)
    is_delivering: bool = False


def alerts(situation: Situation) -> list[Alert]:
    """Return what stands, the worst first; empty = all is well."""
    found = [
        *(*_of_publication(situation), *_of_targets(situation), *_of_champion(situation)),
        *(*_of_runs(situation), *_of_drift(situation.drift)),
    ]
    return sorted(found, key=lambda alert: SEVERITIES.index(alert.severity))


def _of_publication(situation: Situation) -> Iterator[Alert]:
    found, facts = situation.published, situation.published.publication
    if found.problem or facts is None:
        yield Alert("publication", "fail", f"the publication cannot be read: {found.problem}")
    if situation.damage:
        yield Alert("damage", "fail", f"the publication is damaged: {situation.damage}")
    if facts is None:
        return
    if found.is_stale:
        limit = f"{found.age_sessions} sessions old, limit {situation.max_age_sessions}"
        yield Alert("stale", "fail", f"the newest predictions are as-of {facts.as_of}, {limit}")
    if why := facts.degraded_why:
        yield Alert("degraded", "fail", f"the predictions as-of {facts.as_of} were published degraded: {why}")

    if gone := situation.went_back:
        what = f"{gone.restored} is published again, put back instead of {gone.undone}"
        yield Alert("rolled_back", "warn", f"{what}: the next `kstock-batch score` replaces it")


def _of_targets(situation: Situation) -> Iterator[Alert]:
    """Yield one for each target that holds another publication than the one in place, until it holds that."""
    if (facts := situation.published.publication) is None:
        return
    for name, held in situation.targets.items():
        if held is None and not situation.is_delivering:
            told = f"nothing was delivered to the target {name} yet"
            yield Alert("target_failed", "warn", f"{told}: the next `kstock-batch score` does")
        elif held and held.run_id != facts.run_id and (held.why or not situation.is_delivering):
            told = f"the target {name} holds {held.run_id or 'nothing'}, but {facts.run_id} is published"
            yield Alert("target_failed", "fail", f"{told}: {held.why or 'it was not delivered'}")


def _of_champion(situation: Situation) -> Iterator[Alert]:
    if situation.champion_problem:
        yield Alert("champion", "fail", f"there is no model to score with: {situation.champion_problem}")


def _of_runs(situation: Situation) -> Iterator[Alert]:
    if situation.store_problem:
        yield Alert("store", "fail", f"the store cannot be read: {situation.store_problem}")
    for run in situation.runs:
        name, severity = f"{run['command']}_failed", "fail" if run["command"] == NIGHTLY else "warn"
        began = f"the last {run['command']}, {run['started_at']} UTC"
        if run["status"] == "failed":
            yield Alert(name, severity, f"{began}, failed: {run['told']}")
        elif run["status"] == "running" and situation.writer is None:
            yield Alert(name, severity, f"{began}, was killed")


def _of_drift(drift: DriftVerdict | None) -> Iterator[Alert]:
    if drift is not None and drift.state != "ok":
        yield Alert("drift", "fail" if drift.state == "drifted" else "warn", drift.sentence)
