"""Commands about the publications that are kept, and the way back to one."""

from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.completion import generations
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.settings import Settings
from kstock_batch.wording import counted


@click.command("generations")
@as_json
@click.pass_obj
def show_generations(settings: Settings, as_json: bool) -> None:
    """List the publications that are kept for a rollback, newest first; * is in place.

    \b
    Example:
      kstock-batch predictions generations
    """
    from kstock_batch.serving.publication.rollback import list_generations

    found = list_generations(settings.published)
    if as_json:
        console.document([vars(one) for one in found])
        return
    console.table(f"publications kept in {settings.published.parent}", [_row(vars(one)) for one in found])
    console.result(f"{len(found)} of at most {settings.generations} publications are kept")


@click.command("rollback")
@click.option(
    "--to",
    "run_id",
    shell_complete=generations,
    help="Go back to this one.  [default: the newest sound one before the one in place]",
)
@as_json
@click.pass_obj
def roll_back_predictions(settings: Settings, run_id: str | None, as_json: bool) -> None:
    """Put an earlier publication back in place; readers see it with their next question.

    It is verified in a fresh process first, and delivered to the targets of the settings. The one it replaces is kept.
    The store is not needed, and the next score publishes anew.

    \b
    Examples:
      kstock-batch predictions rollback
      kstock-batch predictions rollback --to 20261030T093000Z-1f3a9c
    """
    from kstock_batch.bot.reader import PredictionReader
    from kstock_batch.serving.publication.rollback import roll_back
    from kstock_batch.serving.targets.delivery import deliver

    done = roll_back(settings.published, run_id)
    targets = deliver(settings, None)
    status = PredictionReader(settings.published, settings.max_age_sessions, clock=utc_now).status()
    for what in done.skipped:
        console.note(f"warning: {what}")
    if status.is_stale:
        console.note(
            f"warning: it is {counted(status.age_sessions or 0, 'session')} old, limit {settings.max_age_sessions}:"
            " readers refuse it as stale until the next score"
        )
    if as_json:
        told = {"age_sessions": status.age_sessions, "is_stale": status.is_stale, "targets": targets.rows()}
        console.document({**done.row(), **told})
    else:
        instead = f"instead of {done.replaced}" if done.replaced else "which was in place already or was missing"
        console.result(f"published {done.restored.run_id} as-of {done.restored.as_of} again, {instead}")
        for delivery in targets.done:
            console.result(delivery.told)
    targets.require_all(
        f"{done.restored.run_id} is published again",
        fix=f"mend that, then `kstock-batch predictions rollback --to {done.restored.run_id}` delivers it again",
    )


def _row(facts: dict[str, Any]) -> dict[str, Any]:
    shown = ("id", "as_of", "published_at", "model_version", "n_predictions")
    return {
        "": "*" if facts["is_current"] else "",
        **{name: facts[name] for name in shown},
        "MB": facts["n_bytes"] / 1e6,
        "problem": facts["problem"] or "",
    }
