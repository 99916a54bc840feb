"""The commands that the program has, and whether words are one of them, asked of its own parser; nothing is run."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kstock_batch.cli.app import cli


def parsed(words: Sequence[str]) -> click.Context:
    """Return the context that ``kstock-batch WORDS`` would run in; raise click's own error if it cannot be parsed."""
    with cli.make_context("kstock-batch", list(words), resilient_parsing=False) as context:
        command: click.Command = cli
        while isinstance(command, click.Group):
            rest = [*context._protected_args, *context.args]
            if not rest and command.invoke_without_command:
                break
            name, found, rest = command.resolve_command(context, rest)
            assert found is not None
            context = found.make_context(name, rest, parent=context)
            command = found
        return context


def leaf_commands(group, prefix=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield (*prefix, name), command
            yield from leaf_commands(command, (*prefix, name))
        else:
            yield (*prefix, name), command


LEAVES = dict(leaf_commands(cli))
