"""A night in words: what it came to, and what somebody should know of it."""

from collections.abc import Mapping, Sequence
from datetime import date

from kstock_batch.judging.drift_verdict import DriftVerdict
from kstock_batch.serving.night.agenda import Agenda
from kstock_batch.serving.night.score import Scored
from kstock_batch.serving.publication.publish import Publication
from kstock_batch.store.audits import AuditResult
from kstock_batch.wording import counted


def what_was_done(agenda: Agenda, scored: Sequence[Scored], version: str, *, is_published: bool) -> str:
    """Return a night in one clause."""
    if not scored:
        return _nothing_due(agenda, version, is_published=is_published)
    n_scored, n_bars = sum(s.n_scored for s in scored), sum(s.n_bars for s in scored)
    newest = scored[-1].as_of
    span = f"as-of {newest}" if len(scored) == 1 else f"of {len(scored)} sessions, newest as-of {newest},"
    return f"scored {n_scored:,} of {n_bars:,} stocks {span} with {version}"


def beside(scored: Sequence[Scored], published: Publication | None) -> str:
    """Return what is to be said after that: how many of the sessions are degraded, and that a rollback is over."""
    n_degraded = sum(s.degraded_why is not None for s in scored)
    degraded = "; degraded" if len(scored) == 1 else f"; {counted(n_degraded, 'session')} degraded"
    return (degraded if n_degraded else "") + _rollback_over(published)


def _rollback_over(published: Publication | None) -> str:
    """Say that what a person had put back is no longer in place."""
    gone = published and published.went_back
    return f"; the rollback from {gone.undone} to {gone.restored} is over" if gone else ""


def warnings(agenda: Agenda, left_out: Mapping[date, str], scored: Sequence[Scored], drift: DriftVerdict) -> list[str]:
    """Return what somebody should know of a night that went less well than it might have."""
    told = [drift.sentence] if drift.state != "ok" else []
    told += [f"missed session {day} is left out: {why}" for day, why in sorted(left_out.items())]
    if agenda.n_older:
        told.append(
            f"{counted(agenda.n_older, 'session')} missed before those stay so: catch_up_sessions reaches no further,"
            " `kstock-batch score --from DATE` does"
        )
    told.extend(f"{s.as_of} is published degraded: {s.degraded_why}" for s in scored if s.degraded_why)
    return told + [_warning(s, a) for s in scored[-1:] for a in s.audits if a.n_offending]


def _nothing_due(agenda: Agenda, version: str, *, is_published: bool) -> str:
    """Say why there was nothing to score, and whether there should have been."""
    skipped = f"skipped: {agenda.day_off} is no session of the exchange; " if agenda.day_off else ""
    behind = f"; {agenda.n_behind} later sessions have no prices yet" if agenda.n_behind > 1 else ""
    if agenda.n_behind == 1:
        behind = "; the session after it has no prices yet"
    told = "published again" if is_published else "nothing changed"
    return f"{skipped}already scored as-of {agenda.as_of} with {version}; {told}{behind}"


def _warning(scored: Scored, audit: AuditResult) -> str:
    sample = ", ".join(str(tuple(row.values())) for row in audit.sample)
    return f"audit {audit.audit} as-of {scored.as_of}: {counted(audit.n_offending, 'row')}, e.g. {sample}"
