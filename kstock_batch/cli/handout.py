"""Commands that hand the store's rows to other engines, as files of their own."""

import time
from datetime import date
from pathlib import Path

import click

from kstock_batch import console
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.errors import ConfigError
from kstock_batch.settings import Settings

EXPORTED = ("feature_daily", "label_daily", "prediction")


@click.command()
@click.option(
    "--format", "form", type=click.Choice(["parquet"]), default="parquet", show_default=True, help="Of files."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the partitions.")
@click.option("--table", type=click.Choice(EXPORTED), default=EXPORTED[0], show_default=True, help="What to export.")
@click.option("--from", "since", type=SESSION_DATE, help="First session.  [default: the oldest]")
@click.option("--to", "until", type=SESSION_DATE, help="Last session.  [default: the newest]")
@as_json
@click.pass_obj
def export(
    settings: Settings, form: str, out: Path, table: str, since: date | None, until: date | None, as_json: bool
) -> None:
    """Write a table as hive-partitioned Parquet, one file a session, for any engine.

    Makes as_of=2024-06-28/part-0.parquet and so on, and at last an empty _SUCCESS. A second export changes only what
    differs; with --from or --to, other sessions stay. No writer can open the store meanwhile.

    \b
    Examples:
      kstock-batch export --out features/
      kstock-batch export --out labels/ --table label_daily --from 2024-01-02
    """
    from kstock_batch.serving.export import export_table

    if since and until and since > until:
        raise ConfigError(f"--from {since} is after --to {until}", fix="give an earlier --from")
    begun = time.monotonic()
    done = export_table(settings, table, out, since=since, until=until)
    seconds = time.monotonic() - begun
    if as_json:
        console.document({**vars(done), "seconds": round(seconds, 2)})
        return
    reach = f"{done.n_rows:,} rows of {table}, {done.start} … {done.end},"
    gone = f", {done.n_removed:,} removed" if done.n_removed else ""
    changes = f"{done.n_written:,} of {done.n_partitions:,} sessions written{gone}"
    console.result(f"exported {reach} to {out} in {seconds:.1f} s: {changes}")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The DuckDB file to write or replace.")
@click.option("--from", "since", type=SESSION_DATE, help="First session.  [default: the oldest]")
@as_json
@click.pass_obj
def snapshot(settings: Settings, out: Path, since: date | None, as_json: bool) -> None:
    """Write features, labels and predictions as a DuckDB file of their own, for DuckDB 1.4 and later.

    It has the store's views, macros and comments, and is never touched by a night. While it is written, the store is
    only read: other readers go on, a writer waits a few seconds and is then told to come back.

    \b
    Example:
      kstock-batch snapshot --out analyst.duckdb --from 2023-01-02
    """
    from kstock_batch.serving.snapshot import take_snapshot

    begun = time.monotonic()
    done = take_snapshot(settings, out, since=since, at=utc_now())
    seconds = time.monotonic() - begun
    if as_json:
        console.document({**vars(done), "seconds": round(seconds, 2)})
    else:
        console.result(
            f"wrote {done.n_rows:,} rows of features, {done.start} … {done.end}, to {out}"
            f" ({done.n_bytes / 1e6:,.1f} MB) in {seconds:.1f} s"
        )
