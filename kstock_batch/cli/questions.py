"""Commands that answer questions: from the published file, without the store's lock, unless the store is asked for."""

import os
from contextlib import nullcontext
from datetime import date
from pathlib import Path
from threading import Thread
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.completion import tickers
from kstock_batch.cli.group import Group
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.errors import ConfigError, KStockError
from kstock_batch.settings import Settings
from kstock_batch.wording import counted

SHOWN = ("rank", "ticker", "name", "probability", "signal", "label", "lift", "lgbm", "xgb", "lstm")
SHOWN_ROWS = 1000
WRITTEN_ROWS = 1_000_000  # of CSV, JSON and Parquet: a join gone wrong must not fill a disk, nor a pipe for hours
TIMEOUT_S = 60
FORMATS = ("table", "csv", "json", "parquet")
HEADERS = {"probability": "prob"}  # a table of 80 columns has no room for the long word


@click.group(cls=Group)
def predictions() -> None:
    """Look at what is published."""


@predictions.command("show")
@click.option("--ticker", shell_complete=tickers, help="One stock's newest prediction and its history.")
@click.option("--top", type=click.IntRange(1, 5000), default=20, show_default=True, help="How many, best first.")
@click.option("--as-of", type=SESSION_DATE, help="A published session.  [default: the newest]")
@as_json
@click.pass_obj
def show_predictions(settings: Settings, ticker: str | None, top: int, as_of: date | None, as_json: bool) -> None:
    """Show the best predictions of a session, or one stock's.

    \b
    Examples:
      kstock-batch predictions show --top 20
      kstock-batch predictions show --ticker 005930 --json
    """
    from kstock_batch.bot.reader import PredictionReader

    # A person who asks sees how old it is; only the bot must be kept from acting on it.
    reader = PredictionReader(settings.published, max_age_sessions=None)
    if ticker:
        rows = [p.facts() for p in reader.history(ticker)]
        title = f"{ticker}, newest first"
    elif as_of:
        rows, title = [p.facts() for p in reader.session(as_of)][:top], f"as-of {as_of}"
    else:
        rows, title = [p.facts() for p in reader.top(top)], f"top {top} of the newest session"
    if as_json:
        console.document(rows)
        return
    columns = ("as_of", *SHOWN) if ticker else SHOWN
    console.table(title, [{HEADERS.get(name, name): row[name] for name in columns} for row in rows], decimals=3)
    for day, why in sorted({(row["as_of"], row["degraded_why"]) for row in rows if row["degraded_why"]}):
        console.note(f"warning: {day} is degraded: {why}")
    console.result(f"{counted(len(rows), 'prediction')} from {settings.published}")


@click.command()
@click.argument("statement")
@click.option(
    "--format", "form", type=click.Choice(FORMATS), help="How to answer.  [default: table, or --out's ending]"
)
@click.option("--out", type=click.Path(path_type=Path), help="File to write the answer to; Parquet needs one.")
@click.option("--store", is_flag=True, help="Ask the private store, which no writer can open meanwhile.")
@click.option(
    "--limit",
    type=click.IntRange(1),
    help=f"Rows at most.  [default: {SHOWN_ROWS:,} in a table, else {WRITTEN_ROWS:,}]",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 86_400),
    default=TIMEOUT_S,
    show_default=True,
    help="Seconds at most, until the last row is written; then exit code 21.",
)
@as_json
@click.pass_obj
def sql(
    settings: Settings,
    statement: str,
    form: str | None,
    out: Path | None,
    store: bool,
    limit: int | None,
    timeout: int,
    as_json: bool,
) -> None:
    """Ask the published file, or the store, a question in SQL, read-only.

    Published: prediction, latest, feature_latest, window_latest, model_card, publication, published_session,
    audit_result, run, run_stage, calendar, scorecard, running_scorecard, running_decile, drift; views ml_predictions,
    session_digest, content_digest.
    Store: views feature, labelled_feature, feature_window, named_prediction, judged_prediction, price, listing,
    session; macros feature_history(ticker), cross_section(as_of), window_20d(ticker, as_of); and the tables below them.

    \b
    Examples:
      kstock-batch sql "SELECT market, count(*) AS n, avg(probability) AS p FROM latest GROUP BY ALL"
      kstock-batch sql --store "FROM window_20d('005930', '2024-06-28')" --out window.csv
      kstock-batch sql --store "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'feature'"
    """
    from kstock_batch.serving.questions.ask import asked
    from kstock_batch.serving.questions.formats import TEXTS, write_answer
    from kstock_batch.serving.questions.outside import file_outside

    form = _form(form, as_json, out)
    most = limit or (SHOWN_ROWS if form == "table" else WRITTEN_ROWS)
    place = file_outside(settings, out) if out else nullcontext()
    limits: dict[str, Any] = {"limit": most, "seconds": timeout, "end_process": _end_process}
    with place, asked(settings, statement, of_store=store, **limits) as answer:
        if out:
            write_answer(answer, form, out)
        elif form == "table":
            console.table("answer", list(answer.rows()), as_asked=True)
        else:
            for piece in TEXTS[form](answer):
                console.text(piece)
    told = f"{counted(answer.n_rows, 'row')} from {answer.path}"
    if answer.is_cut:
        told += f", cut at --limit {most}"
        if form != "table" and not limit:  # nobody asked for a part
            console.note(f"warning: there are more than {most:,} rows; --limit says how many are wanted")
    if form == "table" or out:
        console.result(f"{told}, written to {out}" if out else told)
    else:
        console.note(told)  # stdout is the document's


def _end_process(error: KStockError) -> None:
    """End this process at once, as nothing in it listens: while it lives, it may hold the store's lock."""
    from kstock_batch.files import remove_unfinished

    remove_unfinished()
    told = Thread(target=console.error, args=(error,), daemon=True)
    told.start()
    told.join(1)  # a pipe that nobody reads does not keep us either
    os._exit(error.exit_code)


def _form(given: str | None, as_json: bool, out: Path | None) -> str:
    """Return the format asked for, or say which options contradict each other."""
    if as_json and given not in (None, "json"):
        raise ConfigError(f"--json and --format {given} contradict each other", fix="give one of them")
    ending = out.suffix.removeprefix(".") if out else "table"
    form = given or ("json" if as_json else ending)
    if form == "parquet" and not out:
        raise ConfigError("--format parquet is no text to print", fix="name a file with --out FILE.parquet")
    if out and (form == "table" or form not in FORMATS):
        told = f"--format {form}" if given else f"the ending of {out}"
        raise ConfigError(f"{told} is no format of a file", fix="give --format csv, json or parquet")
    return form


@click.command()
@as_json
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show what is published, how old it is, who is champion, what needs a person and how the last runs ended.

    \b
    Example:
      kstock-batch status --json
    """
    from kstock_batch.serving.monitor import status_rows

    facts = status_rows(settings, now=utc_now())
    standing = [alert.row() for alert in facts.pop("alerts")]
    if as_json:
        console.document({**facts, "alerts": standing})
        return
    runs: list[dict[str, Any]] = facts.pop("runs")
    known = {name: value for name, value in facts.items() if value is not None}
    console.table("status", [{"fact": name, "value": str(value)} for name, value in known.items()])
    if standing:
        console.table("alerts", standing)
    if runs:
        shown = ("command", "as_of", "status", "started_at", "seconds", "told")
        console.table("last runs", [{name: run[name] for name in shown} for run in runs], decimals=1)
    console.result(_verdict(facts, standing))


def _verdict(facts: dict[str, Any], standing: list[dict[str, str]]) -> str:
    if "as_of" not in facts:
        fix = next(alert["fix"] for alert in standing if alert["name"] == "publication")
        return f"no predictions can be read ({facts['problem']}): {fix}"
    how_old = f"{counted(facts['age_sessions'], 'session')} old" + (", stale" if facts["is_stale"] else "")
    degraded = f", degraded: {facts['degraded_why']}" if facts["degraded_why"] else ""
    return f"predictions as-of {facts['as_of']} ({how_old}) from {facts['model_version']}{degraded}"
