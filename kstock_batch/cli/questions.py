"""Commands that answer questions from the published file: they never touch the store's lock."""

from datetime import date
from typing import Any

import click

from kstock_batch import console
from kstock_batch.cli.options import SESSION_DATE, as_json, utc_now
from kstock_batch.settings import Settings

SHOWN = ("rank", "ticker", "name", "probability", "signal", "label", "lift", "lgbm", "xgb", "lstm")
HEADERS = {"probability": "prob"}  # a table of 80 columns has no room for the long word


@click.group()
def predictions() -> None:
    """Look at what is published."""


@predictions.command("show")
@click.option("--ticker", help="One stock's newest prediction and its history.")
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
        rows = [vars(p) for p in reader.history(ticker)]
        title = f"{ticker}, newest first"
    elif as_of:
        rows, title = [vars(p) for p in reader.session(as_of)][:top], f"as-of {as_of}"
    else:
        rows, title = [vars(p) for p in reader.top(top)], f"top {top} of the newest session"
    if as_json:
        console.document(rows)
        return
    columns = ("as_of", *SHOWN) if ticker else SHOWN
    console.table(title, [{HEADERS.get(name, name): row[name] for name in columns} for row in rows], decimals=3)
    console.result(f"{len(rows)} predictions from {settings.published}")


@click.command()
@click.argument("statement")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="Rows printed at most.")
@as_json
@click.pass_obj
def sql(settings: Settings, statement: str, limit: int, as_json: bool) -> None:
    """Ask the published file a question in SQL, read-only.

    Tables: prediction, feature_latest, model_card, publication, run, calendar; views: latest, ml_predictions.

    \b
    Example:
      kstock-batch sql "SELECT market, count(*) AS n, avg(probability) AS p FROM latest GROUP BY ALL"
    """
    from kstock_batch.serving.ask import ask

    answer = ask(settings.published, statement, limit=limit)
    if as_json:
        console.document(answer.rows)
        return
    console.table("answer", answer.rows)
    more = f", cut at --limit {limit}" if answer.is_cut else ""
    console.result(f"{len(answer.rows)} rows from {settings.published}{more}")


@click.command()
@as_json
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Show what is published, how old it is, who is champion and how the last runs ended.

    \b
    Example:
      kstock-batch status --json
    """
    from kstock_batch.serving.monitor import status_rows

    facts = status_rows(settings, now=utc_now())
    if as_json:
        console.document(facts)
        return
    runs: list[dict[str, Any]] = facts.pop("runs")
    console.table("status", [{"fact": name, "value": str(value)} for name, value in facts.items()])
    if runs:
        shown = ("command", "as_of", "status", "started_at", "seconds", "told")
        console.table("last runs", [{name: run[name] for name in shown} for run in runs], decimals=1)
    console.result(_verdict(facts))


def _verdict(facts: dict[str, Any]) -> str:
    if "as_of" not in facts:
        return f"nothing is published yet ({facts['problem']}): run `kstock-batch score`"
    how_old = f"{facts['age_sessions']} sessions old" + (", stale" if facts["is_stale"] else "")
    return f"predictions as-of {facts['as_of']} ({how_old}) from {facts['model_version']}"
