"""Commands that put the job on the machine's own scheduler."""

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.group import Group
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.errors import ConfigError, DataNotReady, StoreIncompatible, WarehouseLocked
from kstock_batch.settings import Settings

KIND = click.option(
    "--kind",
    type=click.Choice(("systemd", "launchd", "cron")),
    help="The machine's scheduler.  [default: launchd on a Mac, systemd where it runs, else cron]",
)


@click.group(cls=Group)
def schedule() -> None:
    """Run the nightly score and the weekly retrain by themselves, in Seoul's time whatever the machine's zone."""


@schedule.command()
@KIND
@click.option("--dry-run", is_flag=True, help="Print what would be written, and change nothing.")
@as_json
@click.pass_obj
def install(settings: Settings, kind: str | None, dry_run: bool, as_json: bool) -> None:
    """Install the timers for this --root: nightly Mon-Fri 18:35, retrain Sunday 03:00, Seoul time.

    Secrets are read from the file kstock.env beside kstock.toml (NAME=value lines), never written into a timer.

    \b
    Examples:
      kstock-batch schedule install --dry-run
      kstock-batch --root /srv/kstock schedule install --kind cron
    """
    from kstock_batch.operating import installing
    from kstock_batch.operating.timetable import JOBS

    kind, about = scheduler_for(settings, kind)
    if not dry_run:
        _require_real(settings)
        installing.install(kind, JOBS, **about)
    planned = installing.plan(kind, JOBS, **about)
    if as_json:
        files = [{"place": unit.path, "text": unit.text} for unit in planned]
        console.document({"kind": kind, "dry_run": dry_run, "files": files})
        return
    if dry_run:
        for unit in planned:
            console.text(f"# {unit.path}\n{unit.text}\n")
        console.result(f"{kind} would be told this; nothing was changed")
        return
    console.result(f"{kind} runs {_told()}")


@schedule.command()
@KIND
@as_json
@click.pass_obj
def show(settings: Settings, kind: str | None, as_json: bool) -> None:
    """Show whether the timers of this --root are in place, and when they are due next.

    \b
    Example:
      kstock-batch schedule show
    """
    from kstock_batch.operating import installing
    from kstock_batch.operating.timetable import JOBS, next_due

    kind, about = scheduler_for(settings, kind)
    parts, due = installing.state(kind, JOBS, **about), next_due(JOBS, utc_now())
    if as_json:
        next_at = {name: at.isoformat() for name, at in due.items()}
        console.document({"kind": kind, "parts": [vars(part) for part in parts], "next_due": next_at})
        return
    console.table(kind, [vars(part) for part in parts])
    standing = installing.standing(parts)
    fix = "`kstock-batch schedule install` puts them in place"
    said = "another --root's or version's timers are there" if standing == "other" else "the timers are not installed"
    when = ", ".join(f"{name} {at:%a %Y-%m-%d %H:%M %Z}" for name, at in due.items())
    console.result(f"next: {when}" if standing == "installed" else f"{said}: {fix}")


@schedule.command()
@KIND
@as_json
@click.pass_obj
def remove(settings: Settings, kind: str | None, as_json: bool) -> None:
    """Remove the timers; data and models stay.

    \b
    Example:
      kstock-batch schedule remove
    """
    from kstock_batch.operating import installing
    from kstock_batch.operating.timetable import JOBS

    kind, about = scheduler_for(settings, kind)
    n = installing.remove(kind, JOBS, **about)
    if as_json:
        console.document({"kind": kind, "n_removed": n})
        return
    console.result(
        f"{kind} no longer runs kstock-batch" if n else f"{kind} did not run kstock-batch: nothing to remove"
    )


def scheduler_for(settings: Settings, kind: str | None) -> tuple[str, dict[str, Any]]:
    """Return the kind of scheduler, and what is installed where."""
    from kstock_batch.operating.installing import usual_kind
    from kstock_batch.operating.schedulers import Installation

    # This very interpreter runs the jobs: a scheduler has no PATH that would find an environment.
    program = (sys.executable, "-m", "kstock_batch")
    what = Installation(program, settings.root.resolve())
    today = (utc_now() + timedelta(hours=9)).date()
    return kind or usual_kind(), {"what": what, "home": Path.home(), "today": today}


def _require_real(settings: Settings) -> None:
    """Raise if the store is known to hold the sample market: every night there would fail."""
    from kstock_batch.ingest.pipeline import is_invented
    from kstock_batch.store.warehouse import Warehouse

    try:
        with Warehouse.read(settings) as warehouse:
            invented = is_invented(warehouse.con)
    except (DataNotReady, StoreIncompatible, WarehouseLocked):
        return  # timers may come before data; what is wrong with a store, its night says
    if invented:
        raise ConfigError(
            f"{settings.root.resolve()} holds the sample market: a night finds no real prices to add to it",
            fix="schedule a folder of its own: `kstock-batch --root DIR schedule install`",
        )


def _told() -> str:
    from kstock_batch.operating.timetable import JOBS, next_due

    due = next_due(JOBS, utc_now())
    return "; ".join(f"{job.about} next on {due[job.name]:%a %Y-%m-%d at %H:%M} in Seoul" for job in JOBS)
