"""Rollback: a publication that was kept is verified in a fresh process and renamed in place.

It needs neither the store nor its lock, because it must work when the store is damaged or being written for an hour;
only while another process publishes it waits. The next `score` publishes anew as always.
"""

import logging
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

from kstock_batch.errors import ConfigError, NoPublication, PublicationRefused
from kstock_batch.files import link_or_copy, rename_into_place
from kstock_batch.serving.publication.generations import Facts, Generation, Generations, read_facts
from kstock_batch.serving.publication.publish import building, publishing
from kstock_batch.serving.publication.standalone import drop_foreign_log
from kstock_batch.serving.publication.verifier import Verifier

log = logging.getLogger(__name__)

# A generation's bytes are those that were looked through row by row when it was published: nothing is to be compared
# with a store, and no session is new.
_AS_STATED = {"digest": None, "row_hash": None, "start": date.max, "end": date.min}
_LIST = "see `kstock-batch predictions generations`"


@dataclass(frozen=True)
class Listed:
    """A generation as it is shown; ``problem`` says why it cannot be rolled back to, and is None otherwise."""

    id: str
    as_of: date | None
    published_at: datetime | None
    model_version: str | None
    n_predictions: int | None
    n_bytes: int
    is_current: bool
    problem: str | None


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did: ``replaced`` is None if nothing else was in place, ``skipped`` says what was too damaged."""

    restored: Facts
    replaced: str | None
    skipped: list[str]

    def row(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**vars(self.restored), "replaced": self.replaced, "skipped": self.skipped}


def list_generations(target: Path) -> list[Listed]:
    """Return the publications kept of ``target``, newest first, each looked at byte by byte."""
    kept = Generations(target)
    current, found = kept.current(), kept.newest_first()
    told = zip(found, read_facts([one.path for one in found]), strict=True)
    # One that a job deletes meanwhile is no longer kept.
    return [_listed(one, facts, is_current=one == current) for one, facts in told if one.path.exists()]


def roll_back(target: Path, run_id: str | None = None) -> RolledBack:
    """Put a kept publication in place of ``target``: that of ``run_id``, or the newest sound one before the current."""
    with publishing(target):
        kept = Generations(target)
        kept.keep_current()
        current = kept.current()
        chosen, skipped = _named(kept, run_id) if run_id else _sound_before(kept, current)
        if chosen != current:
            temp = building(target)
            temp.unlink(missing_ok=True)
            link_or_copy(chosen.path, temp)
            drop_foreign_log(target)
            rename_into_place(temp, target)
    restored = read_facts([target])[0]
    if isinstance(restored, str):  # it was verified and renamed: only someone else can have spoilt it since
        raise PublicationRefused(f"{target} was replaced and cannot be read: {restored}", fix=_LIST)
    return RolledBack(restored, None if current in (None, chosen) else current.run_id, skipped)


def _named(kept: Generations, run_id: str) -> tuple[Generation, list[str]]:
    found = kept.newest_first()
    chosen = next((one for one in found if one.run_id == run_id), None)
    if chosen is None:
        known = ", ".join(one.run_id for one in found[:5])
        raise ConfigError(f"no publication called {run_id} is kept", fix=f"name one of {known or 'none'}: {_LIST}")
    if fault := _fault(chosen):
        another = "name another" if fault.startswith(_UNSOUND) else "use the kstock-batch that made it, or name another"
        raise PublicationRefused(f"{chosen.path} {fault}", fix=f"nothing was changed; {another}: {_LIST}")
    return chosen, []


def _sound_before(kept: Generations, current: Generation | None) -> tuple[Generation, list[str]]:
    """Return the newest sound generation that was published before the current one, and which were passed over."""
    skipped: list[str] = []
    for one in kept.newest_first():
        if current is not None and one.number >= current.number:
            continue
        fault = _fault(one)
        if fault is None:
            return one, skipped
        skipped.append(f"{one.path} {fault}")
    told = "; ".join(skipped) or f"{kept.folder} holds none older than the one in place"
    raise NoPublication(f"there is no publication to go back to: {told}", fix=f"run `kstock-batch score`, or {_LIST}")


def _fault(one: Generation) -> str | None:
    """Return why a generation cannot be put in place, or None; whether it is sound a fresh process says."""
    facts = one.facts()
    if isinstance(facts, Facts) and facts.misfit:
        return facts.misfit  # asked first: other tables would look like faults
    with Verifier() as verifier:
        verdict = verifier.verify(one.path, _AS_STATED)
    if verdict.faults:
        return f"{_UNSOUND}{verdict.faults}"
    return None if verdict.sha256.startswith(one.digest) else f"{_UNSOUND}{_CHANGED}"


_UNSOUND = "is unsound: "
_CHANGED = "its bytes are not those that were published"


def _listed(one: Generation, facts: Facts | str, *, is_current: bool) -> Listed:
    size = one.path.stat().st_size
    if isinstance(facts, str):
        return Listed(one.run_id, None, None, None, None, size, is_current, facts)
    problem = facts.misfit if one.is_intact else _CHANGED
    told = (facts.as_of, facts.published_at, facts.model_version, facts.n_predictions)
    return Listed(one.run_id, *told, size, is_current, problem)
