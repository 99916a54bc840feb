"""The weekly command."""

from dataclasses import asdict
from datetime import date
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.model import show_skill
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.settings import Settings


@click.command()
@click.option(
    "--as-of", type=SESSION_DATE, help="Learn only from what was known that night.  [default: newest session]"
)
@click.option("--dry-run", is_flag=True, help="Print rows, folds and estimated minutes; train nothing.")
@as_json
@click.pass_obj
def retrain(settings: Settings, as_of: date | None, dry_run: bool, as_json: bool) -> None:
    """Train the members, prove them out of fold, store a version and promote it if the gate lets it pass.

    The champion stays unless the new version beats both floors (a volatility-only and a linear model), is calibrated,
    and is not worse than the champion on the same sessions; otherwise the exit code is 15 and the message says why.

    \b
    Examples:
      kstock-batch retrain --as-of 2024-06-28
      kstock-batch retrain --dry-run
    """
    if dry_run:
        _show_plan(settings, as_of, as_json)
        return
    from kstock_batch.features.build import bring_up_to_date
    from kstock_batch.features.sessions import session_asked
    from kstock_batch.operating.pings import pinged
    from kstock_batch.store.ledger import opened_run
    from kstock_batch.training.retrain import n_steps
    from kstock_batch.training.retrain import retrain as train

    with pinged("retrain", lambda told: console.note(f"warning: {told}")) as tell:
        with opened_run(settings, "retrain", at=utc_now()) as run:
            with console.progress("retrain", n_steps(settings)) as advance:
                bring_up_to_date(run.warehouse, settings, run)
                run.as_of = session_asked(run.warehouse.con, as_of, settings.price_basis)
                done = train(run.warehouse, settings, run, run.as_of, advance=advance)
            _show(done, as_json, run.seconds)
            if done.refusal:  # in the ledger the run is refused, and says why
                raise done.refusal
            run.summary = "; ".join(filter(None, (f"{done.version.version} is champion", done.occasion)))
        tell(run.summary)
    if not as_json:
        n_rows = done.version.manifest["training"]["n_rows"]
        console.result(
            f"trained {done.version.version} on {n_rows:,} windows as-of {run.as_of} in {run.seconds:.0f} s;"
            " it is champion"
        )


def _show(done: Any, as_json: bool, seconds: float) -> None:
    for warning in done.warnings:
        console.note(f"warning: {warning}")
    if done.occasion:
        console.note(done.occasion)
    if as_json:
        is_champion = done.refusal is None
        console.document({**done.version.manifest, "is_champion": is_champion, "seconds": round(seconds, 1)})
    else:
        show_skill(done.version)


def _show_plan(settings: Settings, as_of: date | None, as_json: bool) -> None:
    from kstock_batch.features.sessions import session_asked
    from kstock_batch.store.warehouse import Warehouse
    from kstock_batch.training.plan import plan_retrain

    with Warehouse.read(settings) as warehouse:
        night = session_asked(warehouse.con, as_of, settings.price_basis)
        plan = plan_retrain(warehouse.con, settings, night)
    if as_json:
        console.document(asdict(plan))
        return
    rows = [{"": f"fold {n}, {part}", **fold[part]} for n, fold in enumerate(plan.folds, 1) for part in fold]
    console.table(f"as-of {plan.as_of}", [{"": "trained on", **plan.training}, *rows])
    if plan.warning:
        console.note(f"warning: {plan.warning}")
    console.result(
        f"retrain would fit {', '.join(plan.members)} {len(plan.folds) + 1} times on {plan.n_windows_fitted:,} windows"
        f" in about {plan.minutes} minutes, by {plan.estimated_from}"
    )
