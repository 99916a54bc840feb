"""The command that audits a session, and tells what audits there are and what the nights found."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.completion import audits
from kstock_batch.cli.options import SESSION_DATE, as_json
from kstock_batch.errors import AuditFailed, DataNotReady
from kstock_batch.settings import Settings
from kstock_batch.wording import counted


@click.command()
@click.argument("names", nargs=-1, shell_complete=audits)
@click.option("--as-of", type=SESSION_DATE, help="Session to audit.  [default: the newest with features]")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Rows printed at most.")
@click.option("--list", "listed", is_flag=True, help="List the audits, how grave each is and what it looks for.")
@click.option("--history", is_flag=True, help="Show what nights found, from the results they kept.")
@as_json
@click.pass_obj
def audit(
    settings: Settings,
    names: Sequence[str],
    as_of: date | None,
    limit: int,
    listed: bool,
    history: bool,
    as_json: bool,
) -> None:
    """Run the audits (default: all) on one session and show offending rows; one named alone shows all of its rows.

    \b
    Examples:
      kstock-batch audit
      kstock-batch audit feature_daily_range --as-of 2024-06-28 --limit 100
      kstock-batch audit --history
      kstock-batch audit --list
    """
    if listed:
        _list_audits(names, as_json)
    elif history:
        _show_audit_history(settings, names, limit, as_json)
    else:
        _run_audits(settings, names, as_of, limit, as_json)


def _list_audits(names: Sequence[str], as_json: bool) -> None:
    from kstock_batch.store.audits import BY_ROW, chosen_audits

    rows = [
        {"audit": a.name, "severity": a.severity.replace(BY_ROW, "fail or warn"), "looks for": a.what}
        for a in chosen_audits(names)
    ]
    if as_json:
        console.document(rows)
    else:
        console.table("audits", rows)


def _show_audit_history(settings: Settings, names: Sequence[str], limit: int, as_json: bool) -> None:
    from kstock_batch.store.audits import kept_results, kept_sessions
    from kstock_batch.store.warehouse import Warehouse

    with Warehouse.read(settings) as warehouse:
        rows = kept_results(warehouse.con, names, limit) if names else kept_sessions(warehouse.con, limit)
    if as_json:
        console.document(rows)
        return
    console.table(f"audits of {', '.join(names) or 'the last nights'}, newest first", rows)
    console.result(f"{counted(len(rows), 'row')} of kept results")


def _run_audits(settings: Settings, names: Sequence[str], as_of: date | None, limit: int, as_json: bool) -> None:
    from kstock_batch.store.audits import SHOWN, run_audits
    from kstock_batch.store.warehouse import Warehouse

    is_alone = len(names) == 1
    with Warehouse.read(settings) as warehouse:
        day = _session_to_audit(warehouse.con, as_of)
        results = run_audits(warehouse.con, day, names, shown=limit if is_alone else SHOWN)
    failed = [result.audit for result in results if result.verdict == "fail"]
    if as_json:
        console.document({"as_of": day, "audits": [_audit_document(result) for result in results]})
    else:
        _show_audits(results, day, is_alone)
    if failed:
        raise AuditFailed(f"audits {failed} found bad rows as-of {day}", fix="mend the source, ingest again")


def _session_to_audit(con: Any, as_of: date | None) -> date:
    first, newest = con.execute("SELECT min(as_of), max(as_of) FROM feature_daily").fetchall()[0]
    day = as_of or newest
    if day is None or not first <= day <= newest:
        held = f"features of {first} … {newest}" if newest else "no features"
        raise DataNotReady(
            f"there is nothing to audit for {day or 'any session'}: the store holds {held}",
            fix="run `kstock-batch features`, or name a session of the store",
        )
    return day


def _show_audits(results: Sequence[Any], day: date, is_alone: bool) -> None:
    if is_alone and results[0].n_offending:
        (only,) = results
        console.table(f"offending rows of {only.audit} as-of {day}", only.sample, as_asked=True)
        more = f", the first {len(only.sample)} shown (--limit)" if only.n_offending > len(only.sample) else ""
        console.result(f"{only.audit} as-of {day}: {only.verdict}, {counted(only.n_offending, 'offending row')}{more}")
        return
    console.table(f"audits as-of {day}", [_audit_row(result) for result in results])
    verdicts = [result.verdict for result in results]
    failed, warned = verdicts.count("fail"), verdicts.count("warn")
    console.result(f"{counted(len(results), 'audit')} as-of {day}: {failed} failed, {warned} warned")


def _audit_row(result: Any) -> dict[str, Any]:
    sample = "; ".join(str(tuple(row.values())) for row in result.sample)
    return {"audit": result.audit, "verdict": result.verdict, "offending": result.n_offending, "e.g.": sample or None}


def _audit_document(result: Any) -> dict[str, Any]:
    from kstock_batch.store.audits import json_row

    rows = [json_row(row) for row in result.sample]
    return {"audit": result.audit, "verdict": result.verdict, "offending": result.n_offending, "rows": rows}
