"""The command that brings the store to this program's schema, and back."""

from pathlib import Path

import click

from kstock_batch import console
from kstock_batch.cli.options import as_json
from kstock_batch.errors import ConfigError
from kstock_batch.settings import Settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Tell the steps and the room a backup needs; change nothing.")
@click.option("--no-backup", is_flag=True, help="Keep no copy from before: there is no way back.")
@click.option("--restore", "backup", type=click.Path(path_type=Path), help="Put this backup in the store's place.")
@as_json
@click.pass_obj
def upgrade(settings: Settings, dry_run: bool, no_backup: bool, backup: Path | None, as_json: bool) -> None:
    """Bring the store to this program's schema; every writing command does the same.

    A copy from before is kept in warehouse/backups/, the newest two of them. Interrupted at any moment, the store is
    at one of the steps, and the next run goes on. --restore puts a copy back; the store that it replaces is kept
    beside it.

    \b
    Examples:
      kstock-batch upgrade --dry-run
      kstock-batch upgrade --restore warehouse/backups/store-v5-20261126T093000000000Z.duckdb
    """
    if backup and (dry_run or no_backup):
        raise ConfigError("--restore goes with neither --dry-run nor --no-backup", fix="leave those out")
    facts, told = _restored(settings, backup) if backup else _upgraded(settings, dry_run, no_backup)
    if as_json:
        console.document(facts)
    else:
        console.result(told)


def _restored(settings: Settings, backup: Path) -> tuple[dict[str, object], str]:
    from kstock_batch.store.backups import restore

    replaced = restore(settings.store, backup)
    aside = f"; what it replaced is {replaced}" if replaced else ""
    facts: dict[str, object] = {
        "store": settings.store,
        "restored": backup,
        "replaced": replaced,
    }
    return facts, f"{settings.store} is {backup} again{aside}; the next writing command upgrades it anew"


def _upgraded(settings: Settings, dry_run: bool, no_backup: bool) -> tuple[dict[str, object], str]:
    from kstock_batch.store.backups import kept_backups, room_for_backup
    from kstock_batch.store.migrations import newest_version, steps_from
    from kstock_batch.store.warehouse import Warehouse

    path = settings.store
    version, newest = Warehouse.version(settings), newest_version()
    steps, (needed, free) = steps_from(version), room_for_backup(path)
    facts: dict[str, object] = {
        "store": path,
        "from_version": version,
        "to_version": newest,
        "steps": steps,
        "store_bytes": needed,
        "free_bytes": free,
        "is_done": not dry_run,
        "backup": None,
    }
    if not steps:
        return {**facts, "is_done": True}, f"{path} has schema version {version}, the newest: nothing to do"
    if dry_run:
        room = f"a backup needs {needed / 1e6:,.0f} MB of {free / 1e6:,.0f} MB free"
        return facts, f"{path} would go from schema version {version} to {newest} ({', '.join(steps)}); {room}"
    with Warehouse.open(settings, backup=not no_backup):
        pass
    kept = None if no_backup else kept_backups(path)[0]
    facts["backup"] = kept
    beside = f"; from before: {kept}" if kept else "; nothing is kept from before"
    return facts, f"{path} went from schema version {version} to {newest}{beside}"
