"""The command that searches for better parameters of the members."""

from datetime import date
from typing import TYPE_CHECKING, Any

import click

from kstock_batch import console
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.learners.members import MEMBER_NAMES
from kstock_batch.settings import Settings

if TYPE_CHECKING:
    from kstock_batch.training.material import Material
    from kstock_batch.training.tuning_report import Found


@click.command()
@click.option(
    "--as-of", type=SESSION_DATE, help="Learn only from what was known that night.  [default: newest session]"
)
@click.option("--member", type=click.Choice(MEMBER_NAMES), help="Tune this one only.  [default: all]")
@click.option(
    "--trials",
    "n_trials",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Go on until a member has so many finished trials, earlier ones included.",
)
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after so long.  [default: no limit]")
@click.option("--show", is_flag=True, help="Only show what the newest search found so far.")
@as_json
@click.pass_obj
def tune(
    settings: Settings,
    as_of: date | None,
    member: str | None,
    n_trials: int,
    minutes: float | None,
    show: bool,
    as_json: bool,
) -> None:
    """Search for better parameters; later retrains use those that are proven better than the defaults.

    Every trial is kept as soon as it is finished: a search that was stopped or killed goes on where it was, and the
    store is free while it runs. Trials are judged inside sessions on a retrain's own folds, so the retrain's figures
    on those folds are a little too kind to tuned parameters. The champion is not touched.

    \b
    Examples:
      kstock-batch tune --member lgbm --trials 40 --minutes 60
      kstock-batch tune --show
    """
    from kstock_batch.training.tune import members_asked, require_optuna, tried_before
    from kstock_batch.training.tune import tune as search

    require_optuna()
    members = members_asked(member)
    if show:
        _print(tried_before(settings, members, None if as_of is None else str(as_of)), as_json=as_json, is_final=False)
        return
    material = _material(settings, as_of)
    total = len(members) * n_trials * len(material.blocks)
    try:
        with console.progress("tune", total) as advance:
            found = search(material, settings, members, n_trials, minutes=minutes, advance=advance)
    except KeyboardInterrupt:
        console.note("stopped; every finished trial is kept, the same command goes on")
        raise
    _print(found, as_json=as_json, is_final=True)
    _note_old(settings, found)


def _material(settings: Settings, as_of: date | None) -> "Material":
    """Return what to learn from; the store is let go of again, for the search may take a night."""
    from kstock_batch.features.build import bring_up_to_date
    from kstock_batch.features.sessions import session_asked
    from kstock_batch.store.ledger import opened_run
    from kstock_batch.training.material import material_of

    with opened_run(settings, "tune", at=utc_now()) as run:
        bring_up_to_date(run.warehouse, settings, run)
        run.as_of = session_asked(run.warehouse.con, as_of, settings.price_basis)
        material = material_of(run, settings, run.as_of)
        run.summary = f"read {len(material.rows.ends):,} windows to tune on"
    return material


def _print(everything: "list[Found]", *, as_json: bool, is_final: bool) -> None:
    reports = [found.report() for found in everything]
    if as_json:
        console.document(reports)
        return
    for report in reports:
        title = f"{report['member']}, as-of {report['as_of']}"
        console.table(f"trials of {title}", [_row(trial) for trial in report["history"]], decimals=6)
        if report["importance"]:
            shares = [{"parameter": name, "importance": share} for name, share in report["importance"].items()]
            console.table(f"what told the best trials of {title} from the others", shares)
    for found in everything:
        written = "; the next retrain uses it" if is_final and found.is_better else ""
        console.result(f"{found.sentence}{written}")


def _note_old(settings: Settings, everything: "list[Found]") -> None:
    """Say where an earlier search's parameters stay in force although this one proved nothing better."""
    from kstock_batch.training.tuned import FILE_NAME, tuned_facts

    old = tuned_facts(settings.models)
    for found in everything:
        if not found.is_better and found.member in old:
            night = old[found.member]["as_of"]
            console.note(f"{settings.models / FILE_NAME} keeps {found.member}'s parameters found as-of {night}")


def _row(trial: dict[str, Any]) -> dict[str, Any]:
    told = " ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in trial["parameters"].items()
    )
    seconds = "–" if trial["seconds"] is None else f"{trial['seconds']:.1f}"
    return {**trial, "seconds": seconds, "parameters": told}
