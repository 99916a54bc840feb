"""The command that looks at everything a night needs, before one fails."""

from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.live import sources_of
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.errors import KStockError
from kstock_batch.settings import Settings
from kstock_batch.wording import counted


@click.command()
@as_json
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> None:
    """Look at machine, disk, rights, clock, packages, store, model, publication, timers and live sources.

    Says what to do about each thing found. Changes nothing, asks no source, and exits with 0 whatever it finds:
    `kstock-batch check` is for monitors.

    \b
    Example:
      kstock-batch doctor
    """
    from kstock_batch.ingest.live.readiness import readiness, unoffered
    from kstock_batch.ingest.live.sources import state_of

    examined = _examined(settings)
    found = readiness(sources_of(settings, ()), state_of(settings), utc_now())
    if as_json:
        sources = {"sources": [one.document() for one in found], "unoffered": unoffered(found)}
        console.document({"examined": [one.row() for one in examined], **sources})
        return
    console.table(
        "this machine and root", [{"part": one.part, "state": one.state, "found": one.told} for one in examined]
    )
    for one in examined:
        if one.fix:
            console.result(f"{one.part}: {one.told}\n  fix: {one.fix}")
    console.table("live sources, in the order they are asked", [one.row() for one in found])
    for sentence in (sentence for one in found for sentence in one.advice()):
        console.result(f"{sentence}")
    for dataset, would in unoffered(found).items():
        console.result(f"nobody that is ready has {dataset}; {would}")
    n_problems, n_notes = (sum(one.state == state for one in examined) for state in ("problem", "note"))
    n_ready = sum(one.state == "ready" for one in found)
    console.result(
        f"{counted(n_problems, 'problem')} and {counted(n_notes, 'note')}; {n_ready} of {len(found)} sources are ready"
    )


def _examined(settings: Settings) -> list[Any]:
    from kstock_batch.operating.checkup import examine
    from kstock_batch.serving.monitor import status_rows

    now = utc_now()
    facts = status_rows(settings, now=now)
    newest_run = max((run["started_at"] for run in facts["runs"]), default=None)
    return [*examine(settings, facts["alerts"], now=now, newest_run=newest_run), _timers(settings)]


def _timers(settings: Settings) -> Any:
    from kstock_batch.cli.schedule import scheduler_for
    from kstock_batch.operating import installing
    from kstock_batch.operating.checkup import Examined
    from kstock_batch.operating.timetable import JOBS

    kind, what = scheduler_for(settings, None)
    fix = "`kstock-batch schedule install`, unless another scheduler runs the night"
    try:
        standing = installing.standing(installing.state(kind, JOBS, **what))
    except KStockError as error:
        return Examined("timers", "note", error.what, fix)
    if standing == "installed":
        return Examined("timers", "ok", f"{kind} runs the night and the retrain")
    there = "runs another root's or version's jobs" if standing == "other" else "runs no job of ours"
    return Examined("timers", "note", f"{kind} {there}", fix)
