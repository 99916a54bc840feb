"""Every piece of help that the command line can print, in English, as it reaches the border to Korean."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from kstock_batch.cli.app import SECTIONS, cli
from kstock_batch.cli.spoken import EXTRA
from kstock_batch.korean.catalogue import SENTENCE


def commands(command: click.Command = cli, path: str = "kstock-batch") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its name as one types it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")


def pieces() -> Iterator[tuple[str, str]]:
    """Yield (where it is said, English) of every title, sentence, option, default and comment of the help."""
    for title, listed in SECTIONS.items():
        yield "kstock-batch", title
        yield from (("kstock-batch", what) for what in listed.values())
    for path, command in commands():
        for block in inspect.cleandoc(command.help or "").split("\n\n"):
            yield from ((path, piece) for piece in _of_block(block))
        if short := command.get_short_help_str(limit=1000):
            yield path, short
        ctx = click.Context(command, info_name=path)
        for param in command.get_params(ctx):
            record = param.get_help_record(ctx)
            if record:
                yield from ((f"{path} {record[0]}", piece) for piece in _of_option(record[1]))


def _of_block(block: str) -> Iterator[str]:
    lines = block.splitlines()
    if lines and lines[0].strip() == "\b":
        for line in lines[1:]:
            command, mark, comment = line.partition("  # ")
            if mark:
                yield comment
            elif not command.strip().startswith("kstock-batch"):
                yield command.strip()
    elif text := " ".join(line.strip() for line in lines):
        yield from SENTENCE.split(text)


def _of_option(text: str) -> Iterator[str]:
    found = EXTRA.fullmatch(text)
    if not found:
        yield from SENTENCE.split(text) if text else ()
        return
    if found["text"].strip():
        yield from SENTENCE.split(found["text"].strip())
    for part in found["extra"].split("; "):
        word, colon, value = part.partition(": ")
        yield word
        if colon and " " in value:  # a word alone is a name or a number
            yield value
    if found["more"].strip():
        yield from _of_option(found["more"].strip())
