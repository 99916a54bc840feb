"""Commands that bring data in."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.settings import Settings
from kstock_batch.wording import counted

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


@click.command("files")
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
    from kstock_batch.ingest.pipeline import ingest_files, summary
    from kstock_batch.ingest.sources.files import PANEL_MAPPING, load_mapping, locate
    from kstock_batch.store.ledger import opened_run

    datasets = load_mapping(mapping or PANEL_MAPPING)
    n_found = len(locate(folder, datasets))  # before the store is touched: a wrong path must not create one
    with opened_run(settings, "ingest files", at=utc_now()) as run, console.progress("ingest", n_found) as advance:
        upserted = ingest_files(
            run.warehouse, folder, datasets, settings=settings, run=run, advance=advance, retroactive=retroactive
        )
        run.summary = summary(upserted)
    _report_ingest(upserted, folder, run.seconds, as_json)


def _report_ingest(upserted: Sequence[Any], folder: Path, seconds: float, as_json: bool) -> None:
    rows = [u.row() for u in upserted]
    if as_json:
        rows = [row | {"restated": [vars(one) for one in u.restated]} for row, u in zip(rows, upserted, strict=True)]
        console.document({"folder": folder, "datasets": rows, "seconds": round(seconds, 2)})
        return
    console.table(f"ingested {folder}", rows)
    if restated := [one for u in upserted for one in u.restated]:
        shown = ", ".join(map(str, restated[:5])) + (" …" if len(restated) > 5 else "")
        who = counted(len(restated), "ticker")
        console.result(f"restated prices: {who} came at another level and will be rebuilt: {shown}")
    new, changed, rejected = (sum(getattr(u, n) for u in upserted) for n in ("n_new", "n_changed", "n_rejected"))
    read = sum(u.n_read for u in upserted)
    told = " (see table quarantine)" if rejected else ""
    console.result(
        f"read {read:,} rows in {seconds:.1f} s: {new:,} new, {changed:,} changed, {rejected:,} rejected{told}"
    )
