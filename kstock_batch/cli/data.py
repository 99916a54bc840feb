"""Commands that bring data in and turn them into features."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.errors import KStockError
from kstock_batch.settings import Settings

DEMO_END = date(2026, 10, 30)
DEMO_SESSIONS = 800


@click.command()
@click.option("--tickers", default=300, show_default=True, type=click.IntRange(20, 3000), help="Names to generate.")
@click.option("--sessions", default=DEMO_SESSIONS, show_default=True, type=click.IntRange(120, 2500), help="Sessions.")
@click.option("--seed", default=7, show_default=True, help="The same seed gives the same market.")
@click.option("--signal", default=1.0, show_default=True, help="Strength of the hidden signal; 0 = none.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Only write the parquet files there.")
@as_json
@click.pass_obj
def demo(
    settings: Settings, tickers: int, sessions: int, seed: int, signal: float, out: Path | None, as_json: bool
) -> None:
    """Build the embedded sample market and ingest it, so that everything can be tried without data.

    \b
    Example:
      kstock-batch --root /tmp/try demo --tickers 100
    """
    from kstock_batch.ingest.demo import ingest_demo, write_demo

    folder = out or settings.warehouse / "sample"
    keep = out is None and settings.store.exists()
    market = write_demo(folder, DEMO_END, n_sessions=sessions, n_tickers=tickers, seed=seed, signal=signal, keep=keep)
    if out:
        console.result(f"wrote {tickers} tickers x {sessions} sessions to {folder}")
        return
    with console.progress("ingest", total=market.n_datasets) as advance:
        upserted, seconds = ingest_demo(settings, folder, at=utc_now(), advance=advance)
    _report_ingest(upserted, folder, seconds, as_json)


@click.group()
def ingest() -> None:
    """Bring source data into the store."""


@ingest.command("files")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--mapping", type=click.Path(path_type=Path), help="TOML that maps files and columns to raw tables.")
@click.option("--retroactive", is_flag=True, help="Changed values count from the beginning: what is stored was wrong.")
@as_json
@click.pass_obj
def ingest_folder(settings: Settings, folder: Path, mapping: Path | None, retroactive: bool, as_json: bool) -> None:
    """Upsert a FOLDER of parquet files into the raw tables.

    Ingesting the same folder twice changes nothing. A changed value is a new version that counts from its arrival:
    past nights keep what they knew. Rows that break a rule are kept in the table `quarantine`.

    \b
    Example:
      kstock-batch ingest files ../shared/krx
    """
    from kstock_batch.ingest.pipeline import ingest_files
    from kstock_batch.ingest.sources.files import PANEL_MAPPING, load_mapping, locate
    from kstock_batch.store.ledger import opened_run

    datasets = load_mapping(mapping or PANEL_MAPPING)
    n_found = len(locate(folder, datasets))  # before the store is touched: a wrong path must not create one
    with opened_run(settings, "ingest files", at=utc_now()) as run, console.progress("ingest", n_found) as advance:
        upserted = ingest_files(
            run.warehouse, folder, datasets, settings=settings, run=run, advance=advance, retroactive=retroactive
        )
        run.summary = f"{sum(u.n_new for u in upserted):,} new, {sum(u.n_changed for u in upserted):,} changed"
        if n_restated := sum(len(u.restated) for u in upserted):
            run.summary += f", {n_restated:,} tickers restated"
    _report_ingest(upserted, folder, run.seconds, as_json)


@click.group(invoke_without_command=True)
@click.option("--rebuild", is_flag=True, help="Recompute every session, whatever is stored.")
@as_json
@click.pass_context
def features(ctx: click.Context, rebuild: bool, as_json: bool) -> None:
    """Compute the 30 features and the labels of every session that is missing or may have changed.

    \b
    Examples:
      kstock-batch features
      kstock-batch features list
    """
    if ctx.invoked_subcommand is not None:
        return
    from kstock_batch.features.build import bring_up_to_date, mark_everything_due
    from kstock_batch.store.ledger import opened_run

    settings: Settings = ctx.obj
    with opened_run(settings, "features", at=utc_now()) as run, console.progress("features", 1) as advance:
        if rebuild:
            mark_everything_due(run.warehouse, settings, run)
        build = bring_up_to_date(run.warehouse, settings, run, advance=advance)
        run.summary = f"{build.n_rows:,} feature rows, {build.n_labels:,} labels for {build.start} … {build.end}"
        run.as_of = build.end
    if as_json:
        console.document({**vars(build), "seconds": round(run.seconds, 2)})
    elif build.n_rows:
        console.result(f"computed {run.summary} in {run.seconds:.1f} s")
    else:
        console.result(f"features are up to date through {build.end}")


@features.command("list")
@as_json
def list_features(as_json: bool) -> None:
    """List the 30 contract features in order."""
    from kstock_batch.market.contract import FEATURES

    rows = [{"#": number, **vars(feature)} for number, feature in enumerate(FEATURES)]
    if as_json:
        console.document(rows)
    else:
        console.table("features", [{k: v for k, v in row.items() if k != "definition"} for row in rows])
        console.result(f"{len(rows)} features; `kstock-batch features describe NAME` tells how one is computed")


@features.command("describe")
@click.argument("name")
@as_json
@click.pass_context
def describe_feature(ctx: click.Context, name: str, as_json: bool) -> None:
    """Tell how the feature NAME is computed, and what its values are in the newest session of the store.

    \b
    Example:
      kstock-batch features describe rsi
    """
    from kstock_batch.serving.describe import contract_facts, feature_called, newest_values
    from kstock_batch.store.warehouse import Warehouse

    feature = feature_called(name)
    facts, values = contract_facts(feature), {}
    try:
        with Warehouse.read(ctx.obj) as warehouse:
            values = newest_values(warehouse.con, feature)
    except KStockError as error:  # the contract says what it says, whether or not a store can be read
        console.note(f"no values: {error.what}")
    if as_json:
        console.document({**facts, "values": values or None})
        return
    console.table(name, [{"fact": fact, "value": str(value)} for fact, value in {**facts, **values}.items()])
    console.result(f"{name}: {facts['definition']}")


@features.command("fingerprint")
@as_json
def show_fingerprint(as_json: bool) -> None:
    """Print the fingerprint a model must carry to score these features."""
    from kstock_batch.market.contract import FEATURE_SET_VERSION, fingerprint

    if as_json:
        console.document({"fingerprint": fingerprint(), "feature_set_version": FEATURE_SET_VERSION})
    else:
        console.result(fingerprint())


def _report_ingest(upserted: Sequence[Any], folder: Path, seconds: float, as_json: bool) -> None:
    rows = [u.row() for u in upserted]
    if as_json:
        rows = [row | {"restated": [vars(one) for one in u.restated]} for row, u in zip(rows, upserted, strict=True)]
        console.document({"folder": folder, "datasets": rows, "seconds": round(seconds, 2)})
        return
    console.table(f"ingested {folder}", rows)
    if restated := [one for u in upserted for one in u.restated]:
        shown = ", ".join(map(str, restated[:5])) + (" …" if len(restated) > 5 else "")
        console.result(f"restated prices: {len(restated)} tickers came at another level and are rebuilt: {shown}")
    new, changed, rejected = (sum(getattr(u, n) for u in upserted) for n in ("n_new", "n_changed", "n_rejected"))
    read = sum(u.n_read for u in upserted)
    told = " (see table quarantine)" if rejected else ""
    console.result(
        f"read {read:,} rows: {new:,} new, {changed:,} changed, {rejected:,} rejected{told} in {seconds:.1f} s"
    )
