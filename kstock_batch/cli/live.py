"""Commands about live sources: the night's ingest, the backfill of years, blocks, and what is ready."""

import os
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.completion import sources
from kstock_batch.cli.group import Group
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.errors import ConfigError
from kstock_batch.settings import Settings

_source = click.option(
    "--source",
    "only",
    multiple=True,
    shell_complete=sources,
    help="Ask this source only; repeatable.  [default: sources]",
)


@click.group(cls=Group, invoke_without_command=True)
@_source
@click.option("--as-of", type=SESSION_DATE, help="Session to ask for.  [default: the newest whose prices are final]")
@as_json
@click.pass_context
def ingest(ctx: click.Context, only: tuple[str, ...], as_of: date | None, as_json: bool) -> None:
    """Ask the live sources for the session and for what earlier nights missed, and store what they tell.

    Of each dataset the first source in the order of the setting `sources` that has it whole is stored. What is done is
    not asked again, what is not final yet is not asked at all. Exits with 3 while prices or listings are missing, and
    with 0 on a day without a session. docs/sources.md has the rest.

    \b
    Examples:
      kstock-batch ingest && kstock-batch features && kstock-batch score
      kstock-batch ingest --source krx --as-of 2026-11-24
    """
    if ctx.invoked_subcommand is not None:
        if only or as_of or as_json:
            raise ConfigError(
                f"--source, --as-of and --json before {ctx.invoked_subcommand} belong to the night's ingest",
                fix=f"write them after it: `kstock-batch ingest {ctx.invoked_subcommand} …`",
            )
        return
    settings: Settings = ctx.obj
    sources = sources_of(settings, only)  # before the store is touched: a wrong name must not create one
    ask_for_the_night(settings, sources, as_of, lambda night, seconds: _tell_night(night, seconds, as_json))


def ask_for_the_night(
    settings: Settings, sources: Sequence[Any], as_of: date | None, tell: Callable[[Any, float], None]
) -> None:
    """Ask ``sources`` for the session and for what earlier nights missed; raise if prices or listings are missing."""
    from kstock_batch.ingest.live.night import run_night
    from kstock_batch.store.ledger import opened_run

    with opened_run(settings, "ingest", at=utc_now()) as run:
        with console.progress("ingest", 1) as advance:
            night = run_night(run, settings, sources, as_of=as_of, advance=lambda label: advance(label, steps=0))
        run.summary = night.summary
        tell(night, run.seconds)
        night.require_complete()  # last: what did come is stored and told


def _tell_night(night: Any, seconds: float, as_json: bool) -> None:
    if as_json:
        console.document({**night.document(), "seconds": round(seconds, 2)})
        return
    if rows := [batch.row() for batch in night.batches]:
        console.table(f"asked for {night.as_of}", rows)
    for remark in night.remarks():
        console.note(remark)
    console.result(f"{night.summary} in {seconds:.1f} s")


@ingest.command()
@click.option("--from", "since", type=SESSION_DATE, required=True, help="First session.")
@click.option("--to", "until", type=SESSION_DATE, required=True, help="Last session.")
@_source
@click.option("--dataset", "datasets", multiple=True, help="Ask for this dataset only; repeatable.  [default: all]")
@as_json
@click.pass_obj
def backfill(
    settings: Settings, since: date, until: date, only: tuple[str, ...], datasets: tuple[str, ...], as_json: bool
) -> None:
    """Ask the live sources for every session of a span that is not stored yet.

    Interrupt it as you like: the same command goes on where it stopped. A source whose calls of the day are used up
    ends it with 26; go on tomorrow.

    \b
    Examples:
      kstock-batch ingest backfill --from 2015-01-02 --to 2024-12-30 --source marcap
      kstock-batch ingest backfill --from 2024-01-02 --to 2024-12-30 --dataset flow --dataset valuation
    """
    from kstock_batch.ingest.live.backfill import run_backfill
    from kstock_batch.store.ledger import opened_run

    if since > until:
        raise ConfigError(f"--from {since} is after --to {until}", fix="give an earlier --from")
    sources = sources_of(settings, only)
    with opened_run(settings, "ingest backfill", at=utc_now()) as run:
        with console.progress("backfill", 1) as advance:
            done = run_backfill(run, settings, sources, start=since, end=until, datasets=datasets, advance=advance)
        run.summary = done.summary
        if as_json:
            console.document({**done.document(), "seconds": round(run.seconds, 2)})
        else:
            for remark in done.remarks():
                console.note(remark)
            console.result(f"{done.summary} in {run.seconds:.1f} s")
        done.require_complete()


@ingest.command()
@click.argument("source", shell_complete=sources)
@as_json
@click.pass_obj
def forgive(settings: Settings, source: str, as_json: bool) -> None:
    """End the block of SOURCE by hand, after you have looked at why it shut us out.

    \b
    Example:
      kstock-batch ingest forgive pykrx
    """
    from kstock_batch.ingest.live.sources import require_known, state_of

    require_known(settings, [source])
    ended = state_of(settings).forgive(source)
    if as_json:
        console.document({"source": source, "was_shut": ended})
    else:
        console.result(f"{source} may be asked again" if ended else f"{source} was not shut: nothing to forgive")


def sources_of(settings: Settings, only: Sequence[str]) -> Any:
    """Return the live sources of the settings, or those named, in their order."""
    from kstock_batch.ingest.live.sources import make_sources, state_of

    return make_sources(settings, os.environ, state_of(settings), only)
