"""Commands that bring data in and turn them into features."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.options import as_json, utc_now
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
@as_json
@click.pass_obj
def ingest_folder(settings: Settings, folder: Path, mapping: Path | None, as_json: bool) -> None:
    """Upsert a FOLDER of parquet files into the raw tables.

    Ingesting the same folder twice changes nothing. Rows that break a rule are kept in the table `quarantine`.

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
        upserted = ingest_files(run.warehouse, folder, datasets, settings=settings, run=run, advance=advance)
        run.summary = f"{sum(u.n_new for u in upserted):,} new, {sum(u.n_changed for u in upserted):,} changed"
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
    from kstock_batch.features.build import bring_up_to_date
    from kstock_batch.store.ledger import opened_run

    settings: Settings = ctx.obj
    with opened_run(settings, "features", at=utc_now()) as run:
        build = bring_up_to_date(run.warehouse, settings, run, rebuild=rebuild)
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
        console.table("features", rows)


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
        console.document({"folder": folder, "datasets": rows, "seconds": round(seconds, 2)})
        return
    console.table(f"ingested {folder}", rows)
    new, changed, rejected = (sum(getattr(u, n) for u in upserted) for n in ("n_new", "n_changed", "n_rejected"))
    read = sum(u.n_read for u in upserted)
    told = " (see table quarantine)" if rejected else ""
    console.result(
        f"read {read:,} rows: {new:,} new, {changed:,} changed, {rejected:,} rejected{told} in {seconds:.1f} s"
    )
