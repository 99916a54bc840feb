"""The root command: where the data live, how much to say, and what an error looks like."""

from pathlib import Path
from typing import Any

import click

from kstock_batch import __version__, console, logs
from kstock_batch.errors import KStockError
from kstock_batch.settings import Settings


class Group(click.Group):
    """Runs commands and turns every error raised on purpose into one sentence and its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KStockError as error:
            console.note(f"error: {error}")
            ctx.exit(error.exit_code)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of a night, not of the alphabet."""
        return list(self.commands)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="KSTOCK_ROOT",
    default=Path("."),
    show_default=True,
    help="Folder that holds warehouse/, models/ and kstock.toml.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log each stage as a line of JSON on stderr.")
@click.version_option(__version__, prog_name="kstock-batch")
@click.pass_context
def cli(ctx: click.Context, root: Path, verbose: bool) -> None:
    """Nightly, point-in-time probabilities that a KRX stock rises 3 % within five sessions.

    \b
    A first night on the embedded sample market:
      kstock-batch demo
      kstock-batch retrain
      kstock-batch score
      kstock-batch predictions show --top 20
    """
    logs.configure(verbose=verbose, tell=console.note)
    ctx.obj = Settings.load(root)


def _register() -> None:
    from kstock_batch.cli import (
        audits,
        data,
        explain,
        features,
        generations,
        handout,
        live,
        model,
        nightly,
        questions,
        tune,
    )
    from kstock_batch.cli.check import check
    from kstock_batch.cli.config import config, init
    from kstock_batch.cli.doctor import doctor
    from kstock_batch.cli.replay import replay
    from kstock_batch.cli.report import report
    from kstock_batch.cli.retrain import retrain
    from kstock_batch.cli.runs import runs, show_summary
    from kstock_batch.cli.schedule import schedule
    from kstock_batch.cli.upgrade import upgrade

    questions.predictions.add_command(replay)
    live.ingest.add_command(data.ingest_folder)
    for command in (
        *(init, data.demo, live.ingest, features.features, audits.audit),
        *(retrain, tune.tune, model.models),
        *(nightly.score, nightly.nightly, questions.predictions, explain.explain),
        *(questions.sql, handout.export, handout.snapshot),
        *(report, show_summary, questions.status, doctor, check, runs, schedule, config, upgrade),
    ):
        cli.add_command(command)
    for command in (generations.show_generations, generations.roll_back_predictions):
        questions.predictions.add_command(command)


_register()
