"""Commands that walk past years again."""

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kstock_batch import console
from kstock_batch.cli.backtests_kept import COMMANDS, show_comparison, show_one
from kstock_batch.cli.group import Group
from kstock_batch.cli.options import as_json, executor_options, utc_now
from kstock_batch.settings import Settings

if TYPE_CHECKING:
    from kstock_batch.backtest.run import Asked, Prepared


@click.group(cls=Group, invoke_without_command=True)
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
@click.option("--commission-bp", default=1.5, show_default=True, help="Commission a side, in 0.01 %.")
@click.option("--slippage-bp", default=10.0, show_default=True, help="Slippage a side, in 0.01 %.")
@click.option("--capacity-pct", default=1.0, show_default=True, help="Share of a stock's traded value an order may be.")
@click.option("--delisted-worth", default=0.0, show_default=True, help="What a delisted stock leaves, 0 … 1.")
@click.option("--dry-run", is_flag=True, help="Print refits, rows, estimated minutes and disk; train nothing.")
@executor_options
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
    executor: str | None,
    workers: int | None,
    address: str | None,
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
    from kstock_batch.executors.choice import chosen_kind

    settings: Settings = ctx.obj
    asked = Asked(first_day(since), last_day(until) if until else None, refit, folds)
    paid = Costs(commission_bp, slippage_bp, True, capacity_pct, delisted_worth).checked()
    each = settings_of(settings, compared) if compared else [settings]
    at_a_time = workers or (1 if executor == "serial" else settings.threads)
    kind = chosen_kind(executor, at_a_time, address)
    if dry_run:
        _show_plans(each, asked, at_a_time, as_json)
        return
    done = [_one(chosen, asked, paid, Workers(kind, at_a_time, address)) for chosen in each]
    for backtest_id in done:
        show_one(settings, backtest_id, as_json and len(done) == 1)
    if len(done) > 1:
        show_comparison(settings, done, as_json)


class Workers(NamedTuple):
    """Which executor trains, with how many workers, and where."""

    kind: str
    n: int
    address: str | None


def _one(settings: Settings, asked: "Asked", costs: Any, workers: Workers) -> str:
    """Walk, judge and store one backtest; return its name."""
    from kstock_batch.backtest import run
    from kstock_batch.executors import make_executor
    from kstock_batch.executors.threads import threads_a_worker

    with run.only_one(settings):
        prepared = run.prepare(settings, asked, at=utc_now(), note=console.note)
        plan, n_done = prepared.plan, len(prepared.plan.refits) - prepared.n_waiting
        console.note(
            f"backtest {plan.backtest_id}: {len(plan.refits)} refits" + (f", {n_done} done before" if n_done else "")
        )
        n_workers = max(1, min(workers.n, prepared.n_waiting))
        threads = threads_a_worker(n_workers, settings.threads)
        try:
            with (
                make_executor(workers.kind, workers=n_workers, address=workers.address, threads=threads) as executor,
                console.progress("backtest", len(plan.refits)) as advance,
            ):
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


def _show_plans(each: list[Settings], asked: "Asked", n_cores: int, as_json: bool) -> None:
    from kstock_batch.backtest.run import planned
    from kstock_batch.store.warehouse import Warehouse

    found: list[Prepared] = []
    for settings in each:
        with Warehouse.read(settings) as warehouse:
            found.append(planned(warehouse.con, settings, asked))
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


for command in COMMANDS:
    backtest.add_command(command)
