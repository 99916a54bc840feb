"""Commands that look at the backtests that are stored."""

from pathlib import Path

import click

from kstock_batch import console
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.settings import Settings


@click.command("list")
@as_json
@click.pass_obj
def list_backtests(settings: Settings, as_json: bool) -> None:
    """List the backtests that are stored, the newest first.

    \b
    Example:
      kstock-batch backtest list
    """
    from kstock_batch.backtest.stored import stored_backtests
    from kstock_batch.store.warehouse import Warehouse

    with Warehouse.read(settings) as warehouse:
        rows = stored_backtests(warehouse.con)
    if as_json:
        console.document(rows)
        return
    console.table("backtests, newest first", rows)
    console.result(f"{len(rows)} backtests; `kstock-batch backtest show ID` tells one whole")


@click.command("show")
@click.argument("backtest_id", required=False)
@as_json
@click.pass_obj
def show_backtest(settings: Settings, backtest_id: str | None, as_json: bool) -> None:
    """Show one backtest (default: the newest): figures by year and regime, variants, refits, portfolios.

    \b
    Example:
      kstock-batch backtest show
    """
    show_one(settings, backtest_id, as_json)


@click.command("compare")
@click.argument("names", nargs=-1, required=True)
@as_json
@click.pass_obj
def compare_backtests(settings: Settings, names: tuple[str, ...], as_json: bool) -> None:
    """Hold the first backtest against each of the others; of a single one, its blend against its other variants.

    Differences are on the sessions of both, with 90 % intervals from drawing blocks of sessions; positive means that
    the first is better.

    \b
    Example:
      kstock-batch backtest compare 20210104-20241230-1f3a9c2b 20210104-20241230-7be01d44
    """
    show_comparison(settings, list(names), as_json)


@click.command("report")
@click.argument("backtest_id", required=False)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="File.  [default: warehouse/backtest/ID.html]"
)
@as_json
@click.pass_obj
def report_backtest(settings: Settings, backtest_id: str | None, out: Path | None, as_json: bool) -> None:
    """Write one backtest (default: the newest) as one HTML file: no network, no script.

    \b
    Example:
      kstock-batch backtest report
    """
    from kstock_batch.backtest.page import render
    from kstock_batch.backtest.shown import facts_of
    from kstock_batch.files import disk_full_is_named, write_atomically
    from kstock_batch.store.warehouse import Warehouse

    with Warehouse.read(settings) as warehouse:
        facts = facts_of(warehouse.con, backtest_id)
    page = render(facts, made_at=utc_now())
    name = facts.whole["backtest_id"]
    path = (out or settings.warehouse / "backtest" / f"{name}.html").resolve()
    with disk_full_is_named(path):
        write_atomically(path, page.encode())
    if as_json:
        console.document({"backtest_id": name, "file": path, "bytes": len(page.encode())})
        return
    console.result(f"report of {name} ({len(page.encode()) / 1e6:.1f} MB): {path}")


@click.command("remove")
@click.argument("backtest_id")
@as_json
@click.pass_obj
def remove_backtest(settings: Settings, backtest_id: str, as_json: bool) -> None:
    """Delete a backtest from the store, and its files.

    \b
    Example:
      kstock-batch backtest remove 20210104-20241230-1f3a9c2b
    """
    from kstock_batch.backtest.run import removed

    name = removed(settings, backtest_id, at=utc_now(), note=console.note)
    if as_json:
        console.document({"removed": name})
    else:
        console.result(f"removed {name}")


def show_one(settings: Settings, backtest_id: str | None, as_json: bool) -> None:
    """Print a stored backtest; None = the newest."""
    from kstock_batch.backtest.shown import facts_of
    from kstock_batch.store.warehouse import Warehouse

    with Warehouse.read(settings) as warehouse:
        facts = facts_of(warehouse.con, backtest_id)
    if as_json:
        console.document(facts.as_json())
        return
    for title, rows in facts.tables().items():
        console.table(title, rows)
    console.result(facts.sentence)


def show_comparison(settings: Settings, names: list[str], as_json: bool) -> None:
    """Print by how much the first backtest is better than the others, or its blend than its own variants."""
    from kstock_batch.backtest.compare import compared_backtests, compared_variants
    from kstock_batch.backtest.stored import require_stored
    from kstock_batch.store.warehouse import Warehouse

    with Warehouse.read(settings) as warehouse:
        if len(names) == 1:
            name = str(require_stored(warehouse.con, names[0])["backtest_id"])
            rows = compared_variants(warehouse.con, name)
        else:
            rows = compared_backtests(warehouse.con, names)
    if as_json:
        console.document(rows)
        return
    console.table("by how much the first is better, with 90 % intervals", rows, decimals=5, by_row=True)
    clear = [row for row in rows if row["low"] is not None and (row["low"] > 0 or row["high"] < 0)]
    console.result(f"{len(clear)} of {len(rows)} differences are clear of zero")


COMMANDS = (list_backtests, show_backtest, compare_backtests, report_backtest, remove_backtest)
