"""Groups of commands: their help as a table of contents, and every error raised on purpose as one sentence."""

import os
from collections.abc import Mapping
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.language import asked_language
from kstock_batch.cli.spoken import Context, told_lines
from kstock_batch.errors import KStockError

Sections = Mapping[str, Mapping[str, str]]  # title -> command -> what it does, in a line


class Group(click.Group):
    """Lists its commands in the order in which they were added, each with its whole first sentence."""

    context_class = Context

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command, whose help then passes where ours does."""
        cmd.context_class = Context
        super().add_command(cmd, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a night, not of the alphabet."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands; a sentence that is longer than a line goes on in the next."""
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Root(Group):
    """The group of everything: commands in named sections; an error is told in one place for all of them."""

    def __init__(self, *args: Any, sections: Sections, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._sections = sections

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the options; even what is wrong with them is told in the language of whoever asks."""
        console.speak(asked_language(args, os.environ))
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.ClickException as error:
            _tell(error)
            raise click.exceptions.Exit(error.exit_code) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn every error raised on purpose into one sentence and its exit code."""
        try:
            return super().invoke(ctx)
        except KStockError as error:
            console.error(error)
            ctx.exit(error.exit_code)
        except click.ClickException as error:
            _tell(error)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            if not console.is_korean():
                raise
            console.alert("\nAborted!")
            ctx.exit(1)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections; columns are aligned over all of them."""
        width = max(len(name) for section in self._sections.values() for name in section)
        for title, commands in self._sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), what) for name, what in commands.items()])


def _tell(error: click.ClickException) -> None:
    """Print one of click's own errors."""
    if not console.is_korean() or isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    for line in told_lines(error):
        console.alert(line)
