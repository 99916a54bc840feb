"""Commands about features: compute them, compute a past night anew, fetch them, tell what they are."""

import time
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.completion import features as known_features
from kstock_batch.cli.group import Group
from kstock_batch.cli.options import SEOUL_INSTANT, SESSION_DATE, as_json, utc_now
from kstock_batch.errors import ConfigError, KStockError
from kstock_batch.settings import Settings


@click.group(cls=Group, invoke_without_command=True)
@click.option("--rebuild", is_flag=True, help="Recompute every session, whatever is stored.")
@click.option(
    "--as-known-at", type=SEOUL_INSTANT, help="Only compute what could be known then, and compare (Seoul time)."
)
@click.option("--as-stored-at", type=SEOUL_INSTANT, help="Compute from what this store held then.")
@click.option("--as-of", type=SESSION_DATE, help="Session to compute as known.  [default: the newest known then]")
@click.option("--from", "since", type=SESSION_DATE, help="First session to compute as known.  [default: --as-of alone]")
@click.option("--out", type=click.Path(path_type=Path), help="Parquet file for the rows as known.")
@as_json
@click.pass_context
def features(
    ctx: click.Context,
    rebuild: bool,
    as_known_at: datetime | None,
    as_stored_at: datetime | None,
    as_of: date | None,
    since: date | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Compute the 30 features and the labels of every session that is missing or may have changed.

    With --as-known-at or --as-stored-at nothing is written to the store: a past night is computed from what could be
    known, and compared with what is stored of it.

    \b
    Examples:
      kstock-batch features
      kstock-batch features --as-known-at 2023-05-10T18:30 --out night.parquet
    """
    if ctx.invoked_subcommand is not None:
        return
    settings: Settings = ctx.obj
    if rebuild and (as_known_at or as_stored_at):
        raise ConfigError("--rebuild writes the store, a past night does not", fix="give one or the other")
    if as_known_at or as_stored_at:
        _replay(settings, as_known_at, as_stored_at, since, as_of, out, as_json)
    elif as_of or since or out:
        raise ConfigError(
            "--as-of, --from and --out belong to a past night",
            fix="add --as-known-at or --as-stored-at; `kstock-batch features` alone computes whatever is due",
        )
    else:
        _build(settings, rebuild, as_json)


def _build(settings: Settings, rebuild: bool, as_json: bool) -> None:
    from kstock_batch.features.build import bring_up_to_date, mark_everything_due
    from kstock_batch.store.ledger import opened_run

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
        labels = f"; {build.n_labels:,} labels were told anew" if build.n_labels else ""
        console.result(f"features are up to date through {build.end}{labels}")


def _replay(
    settings: Settings,
    as_known_at: datetime | None,
    as_stored_at: datetime | None,
    since: date | None,
    as_of: date | None,
    out: Path | None,
    as_json: bool,
) -> None:
    from kstock_batch.features.build import recipe_of
    from kstock_batch.features.knowledge import FOREVER, Knowledge
    from kstock_batch.features.replay import newest_session_known, replay
    from kstock_batch.features.sessions import session_asked
    from kstock_batch.store.warehouse import Warehouse

    begun = time.monotonic()
    knowledge, basis = Knowledge(as_known_at or FOREVER, as_stored_at or FOREVER), settings.price_basis
    with Warehouse.read(settings) as warehouse:
        newest = newest_session_known(warehouse.con, knowledge, basis)
        end = session_asked(warehouse.con, as_of, basis) if as_of else newest
        start = session_asked(warehouse.con, since, basis) if since else end
        if start > end:
            raise ConfigError(f"--from {start} is after {end}", fix="give an earlier --from")
        if end > newest:
            raise ConfigError(f"{end} was not known then", fix=f"ask for sessions through {newest}")
        done = replay(warehouse.con, start, end, recipe_of(settings), knowledge)
    if out:
        _write(settings, done.rows, out)
    _tell_replay(done, out, time.monotonic() - begun, as_json)


def _write(settings: Settings, rows: Any, out: Path) -> None:
    from kstock_batch.files import written_beside
    from kstock_batch.serving.questions.outside import file_outside

    with file_outside(settings, out), written_beside(out) as temp:
        rows.write_parquet(temp)


def _tell_replay(done: Any, out: Path | None, seconds: float, as_json: bool) -> None:
    if as_json:
        facts = {name: value for name, value in vars(done).items() if name != "rows"}
        n_rows = {"n_rows": done.rows.height, "is_identical": done.is_identical}
        console.document({**facts, **n_rows, "out": out, "seconds": round(seconds, 2)})
        return
    if done.differing:
        console.table("cells that differ", [{"column": name, "cells": n} for name, n in done.differing.items()])
    verdict = "identical to" if done.is_identical else "different from"
    alone = f" ({done.n_only_replayed:,} rows not stored, {done.n_only_stored:,} stored but not known)"
    console.result(
        f"computed, as known then, {done.rows.height:,} rows of {done.start} … {done.end} in {seconds:.1f} s:"
        f" {verdict} what is stored{alone if done.n_only_replayed or done.n_only_stored else ''}"
        f"{f'; written to {out}' if out else ''}"
    )


@features.command("get")
@click.argument("spine", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet file to write.")
@click.option("--column", "columns", multiple=True, help="A feature to fetch; repeatable.  [default: the 30]")
@click.option("--max-age-sessions", default=0, show_default=True, type=click.IntRange(0), help="How old a row may be.")
@as_json
@click.pass_obj
def get_features(
    settings: Settings, spine: Path, out: Path, columns: tuple[str, ...], max_age_sessions: int, as_json: bool
) -> None:
    """Fetch the features known on each (ticker, as_of) of the Parquet file SPINE, row for row.

    \b
    Example:
      kstock-batch features get trades.parquet --out trades_with_features.parquet --column rsi
    """
    from kstock_batch.features.retrieval import read_features, read_spine
    from kstock_batch.market.contract import FEATURE_NAMES
    from kstock_batch.store.warehouse import Warehouse

    if out.exists() and spine.exists() and out.samefile(spine):
        raise ConfigError(f"--out {out} is the SPINE itself", fix="name another file")
    begun = time.monotonic()
    rows = read_spine(spine)
    with Warehouse.read(settings) as warehouse:
        found = read_features(warehouse.con, rows, columns or FEATURE_NAMES, max_age_sessions=max_age_sessions)
    _write(settings, found, out)
    n_found = found["feature_as_of"].count()
    seconds = time.monotonic() - begun
    if as_json:
        console.document({"n_rows": found.height, "n_found": n_found, "out": out, "seconds": round(seconds, 2)})
    else:
        console.result(f"found features for {n_found:,} of {found.height:,} rows in {seconds:.1f} s; written to {out}")


@features.command("list")
@as_json
def list_features(as_json: bool) -> None:
    """List the 30 contract features in order, then those registered beside them."""
    from kstock_batch.market.contract import FEATURES
    from kstock_batch.market.extra_features import EXTRA_FEATURES

    shown = ("name", "scope", "as_input", "null_until", "version")
    listed: list[Any] = [*FEATURES, *EXTRA_FEATURES]
    rows = [{"#": n, **{name: getattr(feature, name) for name in shown}} for n, feature in enumerate(listed)]
    if as_json:
        console.document([row | {"definition": f.definition} for row, f in zip(rows, listed, strict=True)])
    else:
        console.table("features", rows)
        console.result(f"{len(rows)} features; `kstock-batch features describe NAME` tells how one is computed")


@features.command("describe")
@click.argument("name", shell_complete=known_features)
@as_json
@click.pass_context
def describe_feature(ctx: click.Context, name: str, as_json: bool) -> None:
    """Tell how the feature NAME is computed, and what its values are in the newest session of the store.

    \b
    Example:
      kstock-batch features describe rsi
    """
    from kstock_batch.serving.questions.describe import contract_facts, feature_called, newest_values
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
