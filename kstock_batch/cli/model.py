"""Commands that train models and choose the one that serves."""

from datetime import date
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.settings import Settings


@click.command()
@click.option(
    "--as-of", type=SESSION_DATE, help="Learn only from what was known that night.  [default: newest session]"
)
@as_json
@click.pass_obj
def retrain(settings: Settings, as_of: date | None, as_json: bool) -> None:
    """Train the three members, judge them out of sample, store a version and promote it if it is worth it.

    \b
    Example:
      kstock-batch retrain --as-of 2024-06-28
    """
    from kstock_batch.features.build import bring_up_to_date
    from kstock_batch.features.sessions import session_asked
    from kstock_batch.store.ledger import opened_run
    from kstock_batch.training.retrain import n_steps
    from kstock_batch.training.retrain import retrain as train

    steps = console.progress("retrain", n_steps(settings))
    with opened_run(settings, "retrain", at=utc_now()) as run, steps as advance:
        bring_up_to_date(run.warehouse, settings, run)
        run.as_of = session_asked(run.warehouse.con, as_of, settings.price_basis)
        done = train(run.warehouse, settings, run, run.as_of, advance=advance)
        if done.refusal:
            raise done.refusal
        run.summary = f"{done.version.version} is champion"
    manifest = done.version.manifest
    if as_json:
        console.document({**manifest, "is_champion": True, "seconds": round(run.seconds, 1)})
        return
    _show_skill(done.version)
    n_rows = manifest["training"]["n_rows"]
    console.result(
        f"trained {done.version.version} on {n_rows:,} windows as-of {run.as_of}; it is champion; {run.seconds:.0f} s"
    )


def _show_skill(version: Any) -> None:
    """Print the metrics of the judging block."""
    judged, metrics = version.manifest["judged"], version.manifest["metrics"]
    title = f"out of fold, {judged['first_session']} … {judged['last_session']}, {judged['n_rows']:,} windows"
    console.table(title, [{"": name, **row} for name, row in metrics.items()])


@click.group()
def models() -> None:
    """Look at model versions and choose the one that serves."""


@models.command("list")
@as_json
@click.pass_obj
def list_models(settings: Settings, as_json: bool) -> None:
    """List all versions, newest first.

    \b
    Example:
      kstock-batch models list
    """
    from kstock_batch.registry import Registry

    registry = Registry(settings.models)
    champion = registry.champion_name()
    rows = [{"champion": "*" if v.version == champion else "", **v.row()} for v in registry.versions()]
    for what in registry.damaged().values():
        console.note(f"warning: {what}")
    if as_json:
        console.document(rows)
    else:
        console.table(f"models in {settings.models}", rows)


@models.command("show")
@click.argument("version", required=False)
@as_json
@click.pass_obj
def show_model(settings: Settings, version: str | None, as_json: bool) -> None:
    """Show one version (default: the champion): its data, its settings, its skill out of sample."""
    from kstock_batch.registry import Registry

    registry = Registry(settings.models)
    chosen = registry.get(version) if version else registry.champion()
    if as_json:
        console.document(chosen.manifest)
        return
    _show_skill(chosen)
    facts = ("as_of", "fingerprint", "training", "blocks", "base_rate", "weights", "settings", "seed", "libraries")
    console.table("facts", [{"fact": name, "value": str(chosen.manifest[name])} for name in facts])


@models.command("promote")
@click.argument("version")
@click.pass_obj
def promote_model(settings: Settings, version: str) -> None:
    """Make VERSION the champion; it takes effect at the next score."""
    from kstock_batch.market.contract import fingerprint
    from kstock_batch.registry import Registry, require_fingerprint

    registry = Registry(settings.models)
    require_fingerprint(registry.get(version), fingerprint())
    registry.promote(version, at=utc_now())
    console.result(f"{version} is champion from the next score on")
