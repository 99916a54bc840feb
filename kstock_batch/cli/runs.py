"""Commands that look into the ledger of runs, and the night in a message's length."""

import click

from kstock_batch import console
from kstock_batch.cli.completion import runs as known_runs
from kstock_batch.cli.group import Group
from kstock_batch.cli.language import chosen_language
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.errors import DataNotReady
from kstock_batch.settings import Settings

SHOWN = ("run_id", "command", "as_of", "status", "started_at", "seconds", "told")


@click.group(cls=Group)
def runs() -> None:
    """Look into the ledger: what ran, for which session, how it ended, how long each stage took."""


@runs.command("list")
@click.option("-n", "--last", default=20, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.option("--command", help="Of this command only.")
@click.option("--failed", is_flag=True, help="Those that failed only.")
@as_json
@click.pass_obj
def list_runs(settings: Settings, last: int, command: str | None, failed: bool, as_json: bool) -> None:
    """List the newest runs, newest first.

    \b
    Examples:
      kstock-batch runs list --last 5
      kstock-batch runs list --command score --failed --json
    """
    from kstock_batch.store.queries import Query
    from kstock_batch.store.warehouse import Warehouse

    with Warehouse.read(settings) as warehouse:
        rows = Query.load("reports/run_list").rows(warehouse.con, n=last, command=command, failed=failed)
    if as_json:
        console.document(rows)
        return
    console.table("runs, newest first", [{name: row[name] for name in SHOWN} for row in rows], decimals=1)
    console.result(f"{len(rows)} runs; `kstock-batch runs show RUN_ID` tells the stages of one")


@runs.command("show")
@click.argument("run_id", shell_complete=known_runs)
@as_json
@click.pass_obj
def show_run(settings: Settings, run_id: str, as_json: bool) -> None:
    """Show one run whole: its stages with rows and seconds, what it said or why it failed.

    \b
    Example:
      kstock-batch runs show 20241230T093500Z-1f3a9c
    """
    from kstock_batch.store.queries import Query
    from kstock_batch.store.warehouse import Warehouse

    with Warehouse.read(settings) as warehouse:
        found = Query.load("reports/run_whole").rows(warehouse.con, run_id=run_id)
        stages = Query.load("reports/run_stages").rows(warehouse.con, run_id=run_id)
    if not found:
        raise DataNotReady(f"there is no run {run_id}", fix="`kstock-batch runs list` names them")
    if as_json:
        console.document({**found[0], "stages": stages})
        return
    facts = {name: value for name, value in found[0].items() if value is not None and name not in ("summary", "error")}
    console.table(run_id, [{"fact": name, "value": str(value)} for name, value in facts.items()])
    console.table("stages, in their order", stages, decimals=3)
    console.result(found[0]["error"] or found[0]["summary"] or found[0]["status"])


@click.command("summary")
@click.option("--telegram", is_flag=True, help="Cut the text to the 4,096 characters that a message may have.")
@click.option("--top", default=10, show_default=True, type=click.IntRange(0, 50), help="How many of the highest.")
@click.option("--language", type=click.Choice(("en", "ko")), help="English or Korean.  [default: the setting]")
@as_json
@click.pass_obj
def show_summary(settings: Settings, telegram: bool, top: int, language: str | None, as_json: bool) -> None:
    """Tell the night in short plain lines: what is published, the highest, what needs a person.

    \b
    Example:
      kstock-batch summary --telegram
    """
    from kstock_batch.operating.summary import fit_for_telegram, summary

    text = summary(settings, now=utc_now(), n=top, language=language or chosen_language(settings))
    if telegram:
        text = fit_for_telegram(text)
    if as_json:
        console.document({"text": text})
    else:
        console.text(f"{text}\n")
