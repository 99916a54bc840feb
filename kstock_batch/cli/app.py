"""The root command: where the data live, how much to say, and the table of contents."""

from pathlib import Path

import click

from kstock_batch import __version__, console, logs
from kstock_batch.cli.group import Root
from kstock_batch.cli.language import chosen_language
from kstock_batch.errors import ConfigError
from kstock_batch.settings import Settings

# In the order in which they are needed; a line that fits a terminal of 80 columns.
SECTIONS = {
    "Start": {
        "init": "write kstock.toml: every setting, its meaning, its default",
        "demo": "build the embedded sample market and ingest it",
        "doctor": "look at everything a night needs, and say what to do",
        "completion": "complete commands, tickers and versions in the shell",
    },
    "Data": {
        "ingest": "ask the live sources, or read a folder of files",
        "features": "compute the 30 features and labels; get, list, describe",
        "audit": "look for rows that must not be scored",
    },
    "Models": {
        "retrain": "train, prove out of fold, and promote what is better",
        "tune": "search for better parameters of the members",
        "backtest": "walk past years again: what it was worth, and earned",
        "models": "list, compare, promote, roll back, prune versions",
    },
    "The night": {
        "nightly": "the whole night: ingest, features, score, publish",
        "score": "features, predictions and publication of what is stored",
        "predictions": "show, replay, roll back what was published",
        "explain": "why a stock has its prediction, and what came true",
    },
    "Questions": {
        "sql": "a question in SQL about the published file or the store",
        "export": "a table as hive-partitioned Parquet",
        "snapshot": "a DuckDB file of an analyst's own",
        "report": "one HTML file: tonight, skill, drift, incidents",
        "summary": "the night in a message's length",
    },
    "Operating": {
        "status": "what is published, how old, by whom, what needs a person",
        "check": "exit code for a monitor: 0 when all is well",
        "runs": "the ledger: what ran, how it ended, stage by stage",
        "schedule": "timers of systemd, launchd or cron",
        "config": "each setting and where it is from",
        "upgrade": "bring the store to a new schema with a backup, or back",
    },
}


@click.group(
    cls=Root,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--root",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="KSTOCK_ROOT",
    default=Path("."),
    show_default=True,
    help="Folder that holds warehouse/, models/ and kstock.toml.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log each stage as a line of JSON on stderr.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but the result, or the error.")
@click.version_option(__version__, prog_name="kstock-batch")
@click.pass_context
def cli(ctx: click.Context, root: Path, verbose: bool, quiet: bool) -> None:
    """Nightly, point-in-time probabilities that a KRX stock rises 3 % within five sessions.

    \b
    A first night on the embedded sample market:
      kstock-batch demo
      kstock-batch retrain
      kstock-batch score
      kstock-batch predictions show --top 20
    """
    console.be_quiet(quiet)
    if verbose and quiet:
        raise ConfigError("--verbose and --quiet contradict each other", fix="give one of them")
    logs.configure(verbose=verbose, tell=console.note)
    ctx.obj = Settings.load(root)
    console.speak(chosen_language(ctx.obj))


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
    from kstock_batch.cli.backtest import backtest
    from kstock_batch.cli.check import check
    from kstock_batch.cli.completion import completion
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
        *(init, data.demo, doctor, completion, live.ingest, features.features, audits.audit),
        *(retrain, tune.tune, backtest, model.models),
        *(nightly.nightly, nightly.score, questions.predictions, explain.explain),
        *(questions.sql, handout.export, handout.snapshot, report, show_summary),
        *(questions.status, check, runs, schedule, config, upgrade),
    ):
        cli.add_command(command)
    for command in (generations.show_generations, generations.roll_back_predictions):
        questions.predictions.add_command(command)


_register()
