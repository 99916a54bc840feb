"""Commands about the settings."""

import click

from kstock_batch import console
from kstock_batch.cli.group import Group
from kstock_batch.cli.options import as_json
from kstock_batch.settings import Settings


@click.command()
@as_json
@click.pass_obj
def init(settings: Settings, as_json: bool) -> None:
    """Write kstock.toml into --root: every setting with its meaning and default, commented out.

    \b
    Example:
      kstock-batch --root /srv/kstock init
    """
    from kstock_batch.operating.settings_file import write_settings_file

    file = write_settings_file(settings.root).resolve()
    if as_json:
        console.document({"file": file})
    else:
        console.result(f"wrote {file}")


@click.group(cls=Group)
def config() -> None:
    """Look at the settings."""


@config.command()
@click.option("--changed", is_flag=True, help="Only those that are not the default.")
@as_json
@click.pass_obj
def show(settings: Settings, changed: bool, as_json: bool) -> None:
    """Show each setting's value and where it is from: default, kstock.toml or a variable.

    \b
    Examples:
      kstock-batch config show --changed
      kstock-batch config show --json
    """
    from kstock_batch.operating.settings_file import settings_with_origins

    every = settings_with_origins(settings.root)
    found = [one for one in every if not changed or one.origin != "default"]
    if as_json:
        console.document([vars(one) for one in found])
        return
    console.table("settings", [{"key": one.key, "value": str(one.value), "origin": one.origin} for one in found])
    n_changed = sum(one.origin != "default" for one in found)
    console.result(f"{n_changed} of {len(every)} settings are not the default")
