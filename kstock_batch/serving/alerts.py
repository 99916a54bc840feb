"""Alerts: what a person should hear about what is served, and do: one sentence and one fix each.

``fail`` means that what the bot reads is missing, old, made by a model that has drifted, or was not renewed last night;
``warn`` that it may come to that.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from kstock_batch.bot.reader import PublicationStatus
from kstock_batch.errors import KStockError
from kstock_batch.judging.drift_verdict import DriftVerdict
from kstock_batch.serving.publication.generations import WentBack
from kstock_batch.serving.targets.record import Held
from kstock_batch.wording import counted

SEVERITIES = ("fail", "warn")
NIGHTLY = "score"  # the command whose failure means that tonight's predictions are missing
# Retrains come weekly. A gate that refuses one or two does its work, and the champion serves on; where it lets none
# pass for a month, the data, the settings or the gate itself are not what they were.
MANY_REFUSALS = 4

_PUBLISH = "run `kstock-batch score` to publish a sound file, or `kstock-batch predictions rollback`"
_CATCH_UP = "run `kstock-batch score`, which also says which prices are missing"
_DELIVER = "mend what it names, then run `kstock-batch score`, which delivers anew"
_MEND = "mend the source, ingest, then run `kstock-batch score`"
_LOOK = "read `kstock-batch models list` and the newest versions' gates in `kstock-batch models show VERSION`"
_RETRAIN = "run `kstock-batch retrain`; docs/outcomes.md says what was looked at"


@dataclass(frozen=True)
class Alert:
    """One thing that stands, and what to do about it; ``severity`` is fail or warn."""

    name: str
    severity: str
    sentence: str
    fix: str

    def row(self) -> dict[str, str]:
        """Return it as a row to print or to store."""
        return asdict(self)


@dataclass(frozen=True)
class Refusals:
    """Retrains that the gate refused since it let one pass: how many, since when, and what it said of the newest."""

    n_refused: int = 0
    since: datetime | None = None
    told: str | None = None


@dataclass(frozen=True)
class Situation:
    """Everything alerts are told from.

    Attributes
    ----------
    published : what a reader makes of the published file
    damage : what it did not notice because it had no need to read there, or None
    max_age_sessions : older is stale
    champion_problem : the error that says why there is no model to score with, or None
    runs : the newest run of each command: what failed and was then done is over
    refusals : what became of the newest retrains
    writer : who holds the store's lock, or None
    store_problem : the error that says why the store cannot be read, or None; that somebody writes it is none
    drift : the newest verdict on what was served, or None
    went_back : that an older publication than the newest is in place, or None
    targets : what each target of the settings holds; None = nothing was ever delivered to it
    is_delivering : whether somebody may be about to write to them
    """

    published: PublicationStatus
    damage: str | None
    max_age_sessions: int
    champion_problem: KStockError | None
    runs: Sequence[Mapping[str, Any]]
    refusals: Refusals
    writer: str | None
    store_problem: KStockError | None
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
        told = f"the publication cannot be read: {found.problem}"
        yield Alert("publication", "fail", told, found.fix or _PUBLISH)
    if situation.damage:
        yield Alert("damage", "fail", f"the publication is damaged: {situation.damage}", _PUBLISH)
    if facts is None:
        return
    if found.is_stale:
        age = f"{counted(found.age_sessions or 0, 'session')} old, limit {situation.max_age_sessions}"
        yield Alert("stale", "fail", f"the newest predictions are as-of {facts.as_of}, {age}", _CATCH_UP)
    if why := facts.degraded_why:
        told = f"the predictions as-of {facts.as_of} were published degraded: {why}"
        yield Alert("degraded", "fail", told, _MEND)

    if gone := situation.went_back:
        what = f"{gone.restored} is published again, put back instead of {gone.undone}"
        yield Alert("rolled_back", "warn", f"{what}: the next score replaces it", _CATCH_UP)


def _of_targets(situation: Situation) -> Iterator[Alert]:
    """Yield one for each target that holds another publication than the one in place, until it holds that."""
    if (facts := situation.published.publication) is None:
        return
    for name, held in situation.targets.items():
        if held is None and not situation.is_delivering:
            told = f"nothing was delivered to the target {name} yet"
            yield Alert("target_failed", "warn", f"{told}: the next score does", _DELIVER)
        elif held and held.run_id != facts.run_id and (held.why or not situation.is_delivering):
            told = f"the target {name} holds {held.run_id or 'nothing'}, but {facts.run_id} is published"
            yield Alert("target_failed", "fail", f"{told}: {held.why or 'it was not delivered'}", _DELIVER)


def _of_champion(situation: Situation) -> Iterator[Alert]:
    if (problem := situation.champion_problem) is not None:
        yield Alert("champion", "fail", f"there is no model to score with: {problem.what}", problem.fix)


def _of_runs(situation: Situation) -> Iterator[Alert]:
    if (problem := situation.store_problem) is not None:
        yield Alert("store", "fail", f"the store cannot be read: {problem.what}", problem.fix)
    for run in situation.runs:
        name, severity = f"{run['command']}_failed", "fail" if run["command"] == NIGHTLY else "warn"
        began = f"the last {run['command']}, {run['started_at']} UTC"
        again = f"run `kstock-batch {run['command']}` again"
        if run["status"] == "failed":
            yield Alert(name, severity, f"{began}, failed: {run['told']}", f"mend what it names, then {again}")
        elif run["status"] == "running" and situation.writer is None:
            yield Alert(name, severity, f"{began}, was killed", f"{again}: nothing is lost")
    if (refusals := situation.refusals).n_refused >= MANY_REFUSALS:
        since = f"since {refusals.since} UTC; the newest: {refusals.told}"
        told = f"the gate let none of the last {refusals.n_refused} new models pass, {since}"
        yield Alert("retrains_refused", "warn", told, _LOOK)


def _of_drift(drift: DriftVerdict | None) -> Iterator[Alert]:
    if drift is not None and drift.state != "ok":
        yield Alert("drift", "fail" if drift.state == "drifted" else "warn", drift.sentence, _RETRAIN)
