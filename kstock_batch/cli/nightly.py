"""The nightly commands."""

from datetime import date
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.errors import ConfigError, KStockError
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
    if since and as_of and since > as_of:
        raise ConfigError(f"--from {since} is after --as-of {as_of}", fix="give an earlier --from")
    night, seconds = _scored(settings, since=since, as_of=as_of, force=force, accept_degraded=accept_degraded)
    if as_json:
        console.document({**night.row(), "seconds": round(seconds, 2)})
    else:
        _tell(night, seconds, settings)
    night.targets.require_all()  # last: the night itself is done, published and told


@click.command()
@as_json
@click.pass_obj
def nightly(settings: Settings, as_json: bool) -> None:
    """Do the whole night: ask the live sources that are ready, then score and publish. What a scheduler runs.

    What ran already is not run again. If prices are missing, the sessions that are whole are scored all the same, and
    the exit code is that of `ingest`. A monitor hears of it if KSTOCK_PING_NIGHTLY_URL holds its address.

    \b
    Example:
      kstock-batch nightly
    """
    from kstock_batch.cli.live import ask_for_the_night, sources_of
    from kstock_batch.operating.pings import pinged

    asked: dict[str, Any] = {}

    def heard(night: Any, seconds: float) -> None:
        asked.update(night.document(), seconds=round(seconds, 2))
        for remark in night.remarks():
            console.note(remark)
        if not as_json:
            console.result(f"{night.summary} in {seconds:.1f} s")

    with pinged("nightly", lambda told: console.note(f"warning: {told}")) as tell:
        missing: KStockError | None = None
        if ready := [source for source in sources_of(settings, ()) if not source.needs()]:
            try:
                ask_for_the_night(settings, ready, None, heard)
            except KStockError as error:  # told now, raised when all that can be scored is
                missing = error
                console.note(f"warning: {error.what}; what is whole is scored all the same")
        else:
            console.note("no live source is ready (`kstock-batch doctor` says why): what is stored is scored")
        night, seconds = _scored(settings)
        tell(night.told(seconds))
        if as_json:
            console.document({"ingest": asked or None, "score": {**night.row(), "seconds": round(seconds, 2)}})
        else:
            _tell(night, seconds, settings)
        night.targets.require_all()
        if missing:
            raise missing


def _scored(
    settings: Settings, *, since: date | None = None, as_of: date | None = None, **how: bool
) -> tuple[Any, float]:
    """Return the night and its seconds, its warnings told."""
    from kstock_batch.serving.night.night import score_nights
    from kstock_batch.store.ledger import opened_run

    with opened_run(settings, "score", at=utc_now()) as run:
        night = score_nights(run.warehouse, settings, run, since=since, as_of=as_of, **how)
        run.summary = night.summary
    for warning in night.warnings:
        console.note(f"warning: {warning}")
    return night, run.seconds


def _tell(night: Any, seconds: float, settings: Settings) -> None:
    console.result(night.told(seconds))
    if night.published:
        console.result(f"published {settings.published.resolve()}")
    for delivery in night.targets.done:
        console.result(delivery.told)
