"""The command line: options in, one call per command, errors translated once."""

import sys


def main() -> None:
    """Run ``kstock-batch``; on an older Python, where only the bot's reader is installed, say so."""
    if sys.version_info < (3, 11):  # noqa: UP036  # the wheel installs on 3.9 for the sake of kstock_batch.bot
        sys.exit("kstock-batch needs Python 3.11 or newer; on this one only `kstock_batch.bot` works")
    from kstock_batch.cli.app import cli

    cli()
