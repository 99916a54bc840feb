"""Completion in the shell: the script that switches it on, and the values that commands can be given.

While somebody types nothing may be printed, waited for or locked: what cannot be read at once is not offered.
"""

import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from kstock_batch import console
from kstock_batch.cli.options import as_json
from kstock_batch.errors import ConfigError, KStockError
from kstock_batch.settings import SOURCES, Settings

PROGRAM = "kstock-batch"
VARIABLE = "_KSTOCK_BATCH_COMPLETE"
SHELLS = {
    "bash": 'eval "$(kstock-batch completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(kstock-batch completion zsh)"   in ~/.zshrc, after compinit',
    "fish": "kstock-batch completion fish > ~/.config/fish/completions/kstock-batch.fish",
}
MOST = 5000

Values = Callable[[Settings], Iterator[tuple[str, str | None]]]
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command()
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
@as_json
@click.pass_context
def completion(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Print what makes a shell complete commands, options, tickers, versions and runs.

    \b
    Examples:
      eval "$(kstock-batch completion bash)"      # in ~/.bashrc
      eval "$(kstock-batch completion zsh)"       # in ~/.zshrc, after compinit
      kstock-batch completion fish > ~/.config/fish/completions/kstock-batch.fish
    """
    kind = get_completion_class(shell)
    if kind is None:  # click knows more shells or fewer than it did
        raise ConfigError(f"{shell} cannot be completed", fix=f"use one of {', '.join(SHELLS)}")
    script = kind(ctx.find_root().command, {}, PROGRAM, VARIABLE).source()
    if as_json:
        console.document({"shell": shell, "script": script, "install": SHELLS[shell]})
        return
    console.text(f"{script}\n")
    if sys.stdout.isatty():  # somebody looks at it; a shell that reads it at each start wants no more
        console.note(f"switch it on with: {SHELLS[shell]}")


def completed_by(values: Values) -> Completer:
    """Return what click asks for the values of a parameter: those of ``values`` that begin as it was typed."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        root = ctx.find_root().params.get("root") or "."
        try:
            found = islice(values(Settings.load(Path(root))), MOST)
            return [CompletionItem(value, help=about) for value, about in found if value.startswith(incomplete)]
        except (KStockError, OSError):
            return []

    return complete


@completed_by
def tickers(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Yield the stocks of the published file with their names, best first."""
    from kstock_batch.bot.reader import PredictionReader

    for one in PredictionReader(settings.published, max_age_sessions=None).top(MOST):
        yield one.ticker, one.name


@completed_by
def versions(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Yield the model versions, newest first."""
    from kstock_batch.registry import Registry

    yield from ((one.version, None) for one in Registry(settings.models).versions())


@completed_by
def generations(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Yield the runs whose publications are kept, newest first."""
    from kstock_batch.serving.publication.generations import Generations

    yield from ((one.run_id, None) for one in Generations(settings.published).newest_first())


@completed_by
def runs(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Yield the runs that the published file knows, newest first."""
    from kstock_batch.serving.questions.ask import asked

    statement = "SELECT run_id, command FROM run ORDER BY started_at DESC"
    with asked(settings, statement, of_store=False, limit=MOST) as answer:
        for row in answer.rows():
            yield str(row["run_id"]), str(row["command"])


@completed_by
def features(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Yield the features and what they are."""
    from kstock_batch.market.contract import FEATURES

    yield from ((feature.name, feature.definition) for feature in FEATURES)


@completed_by
def sources(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Yield the live sources."""
    yield from ((name, None) for name in SOURCES)


@completed_by
def audits(settings: Settings) -> Iterator[tuple[str, str | None]]:
    """Yield the audits."""
    from kstock_batch.store.queries import sql_folder

    yield from ((path.stem, None) for path in sorted((sql_folder() / "audits").glob("*.sql")))
