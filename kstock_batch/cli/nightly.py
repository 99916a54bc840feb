"""The nightly command."""

from datetime import date

import click

from kstock_batch import console
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.errors import ConfigError
from kstock_batch.settings import Settings


@click.command()
@click.option("--as-of", type=SESSION_DATE, help="Session to score.  [default: the newest, and those missed before it]")
@click.option("--from", "since", type=SESSION_DATE, help="Score every session from this one through --as-of.")
@click.option("--force", is_flag=True, help="Score again what is already scored by the same model, and publish.")
@click.option(
    "--accept-degraded", is_flag=True, help="Publish a session that fails gates, with the reason in each row."
)
@as_json
@click.pass_obj
def score(
    settings: Settings, as_of: date | None, since: date | None, force: bool, accept_degraded: bool, as_json: bool
) -> None:
    """Bring features up to date, score the whole universe and publish the predictions.

    What is scored and published already is left alone. A session that fails a gate (docs/night.md) leaves the last
    publication in place.

    \b
    Examples:
      kstock-batch score
      kstock-batch score --from 2024-07-01 --as-of 2024-07-12
      kstock-batch score --as-of 2024-07-12 --accept-degraded
    """
    from kstock_batch.serving.night.night import score_nights
    from kstock_batch.store.ledger import opened_run

    if since and as_of and since > as_of:
        raise ConfigError(f"--from {since} is after --as-of {as_of}", fix="give an earlier --from")
    with opened_run(settings, "score", at=utc_now()) as run:
        night = score_nights(
            *(run.warehouse, settings, run),
            since=since,
            as_of=as_of,
            force=force,
            accept_degraded=accept_degraded,
        )
        run.summary = night.summary
    for warning in night.warnings:
        console.note(f"warning: {warning}")
    if as_json:
        console.document({**night.row(), "seconds": round(run.seconds, 2)})
    else:
        console.result(night.told(run.seconds))
        if night.published:
            console.result(f"published {settings.published.resolve()}")
        for delivery in night.targets.done:
            console.result(delivery.told)
    night.targets.require_all()  # last: the night itself is done, published and told
