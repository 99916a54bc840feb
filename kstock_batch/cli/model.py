"""Commands that look at model versions and choose the one that serves."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.completion import versions
from kstock_batch.cli.group import Group
from kstock_batch.cli.options import as_json, utc_now
from kstock_batch.settings import Settings
from kstock_batch.wording import counted


def show_skill(version: Any) -> None:
    """Print the metrics of the judging block."""
    judged, metrics = version.manifest["judged"], version.manifest["metrics"]
    title = f"out of fold, {judged['first_session']} … {judged['last_session']}, {judged['n_rows']:,} windows"
    console.table(title, [{"": name, **row} for name, row in metrics.items()])


@click.group(cls=Group)
def models() -> None:
    """Look at model versions and choose the one that serves."""


@models.command("list")
@as_json
@click.pass_obj
def list_models(settings: Settings, as_json: bool) -> None:
    """List all versions, newest first.

    \b
    Example:
      kstock-batch models list
    """
    from kstock_batch.registry import Registry

    registry = Registry(settings.models)
    champion = registry.champion_name()
    rows = [{"champion": "*" if v.version == champion else "", **v.row()} for v in registry.versions()]
    for what in registry.damaged().values():
        console.note(f"warning: {what}")
    if as_json:
        console.document(rows)
    else:
        console.table(f"models in {settings.models}", rows)


@models.command("show")
@click.argument("version", required=False, shell_complete=versions)
@as_json
@click.pass_obj
def show_model(settings: Settings, version: str | None, as_json: bool) -> None:
    """Show one version (default: the champion): its data, its settings, its skill out of sample."""
    from kstock_batch.registry import Registry

    registry = Registry(settings.models)
    chosen = registry.get(version) if version else registry.champion()
    if as_json:
        console.document(chosen.manifest)
        return
    show_skill(chosen)
    manifest = chosen.manifest
    console.table("gate", manifest["gate"]["checks"])
    console.table("reliability of the blend, out of fold", manifest["reliability"])
    facts = ("as_of", "fingerprint", "training", "base_rate", "weights", "weights_are", "level", "brier", "over_budget")
    more = ("settings", "seed", "libraries")
    console.table("facts", [{"fact": name, "value": str(manifest[name])} for name in (*facts, *more)])
    if drift := manifest.get("drift"):  # versions of before the first verdict have none
        console.result(f"trained knowing that {drift['sentence']} (told as-of {drift['as_of']})")


@models.command("promote")
@click.argument("version", shell_complete=versions)
@as_json
@click.pass_obj
def promote_model(settings: Settings, version: str, as_json: bool) -> None:
    """Make VERSION the champion; it takes effect at the next score.

    \b
    Example:
      kstock-batch models promote 20240621T083000Z-1f3a9c
    """
    from kstock_batch.market.contract import fingerprint
    from kstock_batch.registry import Registry, require_fingerprint

    registry = Registry(settings.models)
    require_fingerprint(registry.get(version), fingerprint())
    registry.promote(version, at=utc_now())
    if as_json:
        console.document(asdict(registry.pointer()))
        return
    console.result(f"{version} is champion from the next score on")


@models.command("rollback")
@click.option(
    "--to",
    "version",
    shell_complete=versions,
    help="Go back to this version.  [default: the one that served before]",
)
@as_json
@click.pass_obj
def roll_back(settings: Settings, version: str | None, as_json: bool) -> None:
    """Make the version that served before the champion again; it takes effect at the next score.

    Each further rollback goes one version further back. A version that is damaged, or learnt other features, is
    refused and the champion stays.

    \b
    Examples:
      kstock-batch models rollback
      kstock-batch models rollback --to 20240621T083000Z-1f3a9c
    """
    from kstock_batch.market.contract import fingerprint
    from kstock_batch.registry import Registry

    registry = Registry(settings.models)
    chosen = registry.rollback(version, at=utc_now(), fingerprint=fingerprint())
    pointer = registry.pointer()
    if as_json:
        console.document(asdict(pointer))
        return
    before = f"a further rollback goes to {pointer.history[0]}" if pointer.history else "it has no predecessor"
    console.result(f"{chosen.version} instead of {pointer.rolled_back_from} from the next score on; {before}")


@models.command("prune")
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many of the newest versions to keep.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@as_json
@click.pass_obj
def prune_models(settings: Settings, keep: int, dry_run: bool, as_json: bool) -> None:
    """Delete old versions, but never the champion nor what a rollback needs.

    \b
    Examples:
      kstock-batch models prune --keep 10 --dry-run
      kstock-batch models prune --keep 10
    """
    from kstock_batch.market.contract import fingerprint
    from kstock_batch.registry import Registry

    registry = Registry(settings.models)
    gone = registry.prunable(keep=keep, fingerprint=fingerprint())
    if not dry_run:
        registry.prune(gone)
    if as_json:
        console.document({"deleted": gone, "dry_run": dry_run})
        return
    for name in gone:
        console.text(f"{name}\n")
    told = f"{counted(len(gone), 'version')} in {settings.models}"
    console.result(f"would delete {told}" if dry_run else f"deleted {told}")


@models.command("compare")
@click.argument("first", shell_complete=versions)
@click.argument("second", shell_complete=versions)
@as_json
@click.pass_obj
def compare_models(settings: Settings, first: str, second: str, as_json: bool) -> None:
    """Compare the blends of two versions: their metrics, and their probabilities on the rows both were judged on.

    Differences on common rows have 90 % intervals from drawing blocks of sessions; positive means that FIRST is worse.

    \b
    Example:
      kstock-batch models compare 20240628T083000Z-1f3a9c 20240621T083000Z-7be01d
    """
    from kstock_batch.registry import Registry
    from kstock_batch.training.comparison import compare

    registry = Registry(settings.models)
    found = compare(registry.get(first), registry.get(second))
    if as_json:
        console.document(found.as_json())
        return
    console.table("blend out of sample, each on the sessions it was judged on", found.metric_rows())
    if found.differences:
        console.table(f"{first} less {second}, positive is worse", found.difference_rows(), decimals=5)
    console.result(found.sentence)


@models.command("lstm-file")
@click.argument("version", required=False, shell_complete=versions)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="[default: models/lstm_stock.pt]")
@as_json
@click.pass_obj
def write_lstm_file(settings: Settings, version: str | None, out: Path | None, as_json: bool) -> None:
    """Write the LSTM of a version (default: the champion) as the file the bot loads: tensors and plain numbers only.

    \b
    Example:
      kstock-batch models lstm-file
    """
    from kstock_batch.errors import ModelRefused
    from kstock_batch.learners.lstm import LstmMember
    from kstock_batch.learners.lstm_checkpoint import FILE_NAME, write_checkpoint
    from kstock_batch.registry import Registry, require_intact, require_stated

    registry = Registry(settings.models)
    chosen = registry.get(version) if version else registry.champion()
    path = out or settings.models / FILE_NAME
    if "lstm" not in chosen.manifest["members"]:
        raise ModelRefused(f"{chosen.version} was trained without an LSTM", fix="name another VERSION, or retrain")
    require_intact(chosen)
    require_stated(chosen, LstmMember.file_name)
    write_checkpoint(LstmMember.load(chosen.folder), path)
    if as_json:
        console.document({"version": chosen.version, "file": path.resolve()})
    else:
        console.result(f"wrote the LSTM of {chosen.version} to {path.resolve()}")
