"""The help, and click's own errors, in the language of whoever asks: click writes English, this is where it passes."""

import re
from collections.abc import Iterable, Iterator, Sequence

import click

from kstock_batch import console

EXTRA = re.compile(r"(?P<text>.*?)(?:(?:^|\s\s)\[(?P<extra>[^\[]*)\])(?P<more>.*)", re.DOTALL)
_LITERAL = "\b"  # click's mark of a paragraph whose lines stay as they are


class Formatter(click.HelpFormatter):
    """Writes help; every text of it passes here. Korean is wrapped by the places it takes in a terminal."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the line that begins with Usage."""
        if not console.is_korean():
            super().write_usage(prog, args, prefix)
            return
        from kstock_batch.korean.wrapping import places, wrapped

        usage = f"{console.said(prefix or 'Usage: ')}{prog} "
        for name in ("[OPTIONS]", "COMMAND [ARGS]..."):
            args = args.replace(name, console.said(name))
        for n, line in enumerate(wrapped(args, max(self.width - places(usage), 20))):
            self.write(f"{usage if n == 0 else ' ' * places(usage)}{line}\n")

    def write_heading(self, heading: str) -> None:
        """Write the title of a section."""
        super().write_heading(console.said(heading))

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        if not console.is_korean():
            super().write_text(text)
            return
        indent = " " * self.current_indent
        blocks = [self._block(block, len(indent)) for block in text.split("\n\n")]
        self.write("\n\n".join("\n".join(f"{indent}{line}" for line in lines) for lines in blocks))
        self.write("\n")

    def _block(self, block: str, indent: int) -> Sequence[str]:
        """Return the lines of one paragraph."""
        from kstock_batch.korean.catalogue import paragraph
        from kstock_batch.korean.wrapping import wrapped

        lines = [line for line in block.splitlines() if line.strip()]
        if lines and lines[0].strip() == _LITERAL:
            return [_example(line) for line in lines[1:]]
        return list(wrapped(paragraph(" ".join(line.strip() for line in lines)), self.width - indent))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms and what they mean: commands, or options."""
        if not console.is_korean():
            super().write_dl(rows, col_max, col_spacing)
            return
        from kstock_batch.korean.wrapping import wrapped

        rows = list(rows)
        column = min(max(len(term) for term, _ in rows), col_max) + col_spacing
        indent = " " * self.current_indent
        for term, meaning in rows:
            lines = list(wrapped(option_help(meaning), max(self.width - column - 2, 10)))
            is_beside = len(term) <= column - col_spacing
            first = f"{indent}{term.ljust(column)}{lines[0]}" if is_beside else f"{indent}{term}"
            rest = lines[1:] if is_beside else lines
            self.write("".join(f"{line}\n" for line in (first.rstrip(), *(f"{indent}{'':{column}}{x}" for x in rest))))


class Context(click.Context):
    """A context whose help passes through ``Formatter``."""

    formatter_class = Formatter


def option_help(text: str) -> str:
    """Return what an option means, and its [default: …; required] behind it."""
    from kstock_batch.korean.catalogue import paragraph

    if not (found := EXTRA.fullmatch(text)):
        return paragraph(text)
    # `default: serial; required`: each a word of click's and a value, or a phrase of ours
    extra = "; ".join(_extra_said(part) for part in found["extra"].split("; "))
    more = f"  {option_help(found['more'].strip())}" if found["more"].strip() else ""
    return f"{paragraph(found['text'].strip())}  [{extra}]{more}".strip()


def _extra_said(part: str) -> str:
    word, colon, value = part.partition(": ")
    return f"{console.said(word)}: {console.said(value)}" if colon else console.said(part)


def _example(line: str) -> str:
    """Return a line of an example: its title, or a command that is kept, with the comment behind it."""
    indent = line[: len(line) - len(line.lstrip())]
    command, mark, comment = line.partition("  # ")
    if mark:
        return f"{command}  # {console.said(comment)}"
    return indent + (line.strip() if line.strip().startswith("kstock-batch") else console.said(line.strip()))


def told_lines(error: click.ClickException) -> Iterator[str]:
    """Yield what click prints of one of its errors: how the command is used, where help is, what is wrong."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is not None:
        yield ctx.get_usage()
        if (option := ctx.command.get_help_option(ctx)) is not None:
            yield f"Try '{ctx.command_path} {max(option.opts, key=len)}' for help."
            yield ""
    yield f"Error: {error.format_message()}"
