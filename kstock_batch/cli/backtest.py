"""Commands that walk past years again."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kstock_batch import console
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.settings import Settings

if TYPE_CHECKING:
    from kstock_batch.backtest.run import Asked, Prepared


@click.group(invoke_without_command=True)
@click.option("--from", "since", help="First month or session to score, like 2021-01.")
@click.option("--to", "until", help="Last month or session to score.  [default: the newest whose outcome is known]")
@click.option(
    "--refit",
    default="quarterly",
    show_default=True,
    help="monthly, quarterly, half-yearly, yearly, or dates with commas.",
)
@click.option(
    "--folds",
    type=click.Choice(("walk", "own")),
    default="walk",
    show_default=True,
    help="Calibrate by what earlier refits said of the sessions since, or by each refit's own folds (twice the time).",
)
@click.option("--compare", "compared", help="Several settings side by side: train=6,12,24,48 (months of training).")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes that train.  [default: setting threads]")
@click.option("--commission-bp", default=1.5, show_default=True, help="Commission a side, in 0.01 %.")
@click.option("--slippage-bp", default=10.0, show_default=True, help="Slippage a side, in 0.01 %.")
@click.option("--capacity-pct", default=1.0, show_default=True, help="Share of a stock's traded value an order may be.")
@click.option("--delisted-worth", default=0.0, show_default=True, help="What a delisted stock leaves, 0 … 1.")
@click.option("--dry-run", is_flag=True, help="Print refits, rows, estimated minutes and disk; train nothing.")
@as_json
@click.pass_context
def backtest(
    ctx: click.Context,
    /,
    since: str | None,
    until: str | None,
    refit: str,
    folds: str,
    compared: str | None,
    workers: int | None,
    commission_bp: float,
    slippage_bp: float,
    capacity_pct: float,
    delisted_worth: float,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Retrain as of past dates on what was known, score every session after, tell what came true and what it earned.

    What is finished is kept: after Ctrl-C or a kill the same command goes on. The store is free while refits run.

    \b
    Examples:
      kstock-batch backtest --from 2021-01 --to 2024-12 --refit quarterly
      kstock-batch backtest --from 2023-01 --to 2024-12 --compare train=6,12,24,48
      kstock-batch backtest --from 2021-01 --to 2024-12 --dry-run
    """
    if ctx.invoked_subcommand is not None:
        return
    if since is None:
        raise click.UsageError("say which sessions to score: --from 2021-01 [--to 2024-12]")
    from kstock_batch.backtest.compare import settings_of
    from kstock_batch.backtest.costs import Costs
    from kstock_batch.backtest.plan import first_day, last_day
    from kstock_batch.backtest.run import Asked

    settings: Settings = ctx.obj
    asked = Asked(first_day(since), last_day(until) if until else None, refit, folds)
    paid = Costs(commission_bp, slippage_bp, True, capacity_pct, delisted_worth).checked()
    each = settings_of(settings, compared) if compared else [settings]
    if dry_run:
        _show_plans(each, asked, workers, as_json)
        return
    done = [_one(chosen, asked, paid, workers or settings.threads) for chosen in each]
    for backtest_id in done:
        _show(settings, backtest_id, as_json and len(done) == 1)
    if len(done) > 1:
        _show_comparison(settings, done, as_json)


@backtest.command("list")
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


@backtest.command("show")
@click.argument("backtest_id", required=False)
@as_json
@click.pass_obj
def show_backtest(settings: Settings, backtest_id: str | None, as_json: bool) -> None:
    """Show one backtest (default: the newest): figures by year and regime, variants, refits, portfolios.

    \b
    Example:
      kstock-batch backtest show
    """
    _show(settings, backtest_id, as_json)


@backtest.command("compare")
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
    _show_comparison(settings, list(names), as_json)


@backtest.command("report")
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


@backtest.command("remove")
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


def _one(settings: Settings, asked: "Asked", costs: Any, n_workers: int) -> str:
    """Walk, judge and store one backtest; return its name."""
    from kstock_batch.backtest import run
    from kstock_batch.executors import ProcessExecutor, SerialExecutor

    prepared = run.prepare(settings, asked, at=utc_now(), note=console.note)
    plan, n_done = prepared.plan, len(prepared.plan.refits) - prepared.n_waiting
    console.note(
        f"backtest {plan.backtest_id}: {len(plan.refits)} refits" + (f", {n_done} done before" if n_done else "")
    )
    n_workers = max(1, min(n_workers, prepared.n_waiting))
    threads = max(1, settings.threads // n_workers)
    executor = SerialExecutor() if n_workers == 1 else ProcessExecutor(n_workers)
    try:
        with console.progress("backtest", len(plan.refits)) as advance:
            advance(steps=n_done)
            for progress in run.walked(prepared, executor, threads=threads):
                advance(progress.sentence)
                console.note(progress.sentence)
    except KeyboardInterrupt:
        console.note("stopped; every finished refit is kept, the same command goes on")
        raise
    results = run.judged(settings, prepared, costs, note=console.note)
    run.kept(settings, prepared, costs, results, at=utc_now(), note=console.note)
    return plan.backtest_id


def _show_plans(each: list[Settings], asked: "Asked", workers: int | None, as_json: bool) -> None:
    from kstock_batch.backtest.run import planned
    from kstock_batch.store.warehouse import Warehouse

    found: list[Prepared] = []
    for settings in each:
        with Warehouse.read(settings) as warehouse:
            found.append(planned(warehouse.con, settings, asked))
    n_cores = workers or each[0].threads
    told = [
        {
            "backtest_id": one.plan.backtest_id,
            "refits": [vars(refit) for refit in one.plan.refits],
            "n_waiting": one.n_waiting,
            "n_rows": one.n_rows,
            "n_windows_fitted": one.n_windows,
            "minutes": round(one.minutes(n_cores), 1),
            "disk_mb": round(one.disk_mb),
        }
        for one in found
    ]
    if as_json:
        console.document(told)
        return
    for one in found:
        console.table(one.plan.backtest_id, [vars(refit) for refit in one.plan.refits])
        console.result(
            f"backtest would train {len(one.plan.refits)} refits ({one.n_waiting} are not done) on {one.n_windows:,}"
            f" windows in about {one.minutes(n_cores):.1f} minutes on {n_cores} cores, and take {one.disk_mb:,.0f} MB"
            f" of disk meanwhile"
        )


def _show(settings: Settings, backtest_id: str | None, as_json: bool) -> None:
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


def _show_comparison(settings: Settings, names: list[str], as_json: bool) -> None:
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
    console.table("by how much the first is better, with 90 % intervals", rows, decimals=5)
    clear = [row for row in rows if row["low"] is not None and (row["low"] > 0 or row["high"] < 0)]
    console.result(f"{len(clear)} of {len(rows)} differences are clear of zero")
