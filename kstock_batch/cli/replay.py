"""The command that rebuilds a past night."""

import time
from datetime import date
from typing import TYPE_CHECKING

import click

from kstock_batch import console
from kstock_batch.cli.options import SESSION_DATE, as_json
from kstock_batch.settings import Settings

if TYPE_CHECKING:
    from kstock_batch.serving.replay.replay import PredictionReplay

SHOWN_CELLS = 20


@click.command("replay")
@click.option("--as-of", type=SESSION_DATE, required=True, help="Session to rebuild.")
@click.option("--ticker", help="Show this stock's columns too, as published and as rebuilt.")
@as_json
@click.pass_obj
def replay(settings: Settings, as_of: date, ticker: str | None, as_json: bool) -> None:
    """Rebuild a past night from the raw rows and the model it was made of, and compare it with what is published.

    Nothing is written. Raw rows count as the store held them when it scored, so corrections that came later change
    nothing. Ends with exit code 30 and the reason if anything is not what it was, to the bit.

    \b
    Examples:
      kstock-batch predictions replay --as-of 2024-07-01
      kstock-batch predictions replay --as-of 2024-07-01 --ticker 005930 --json
    """
    from kstock_batch.serving.replay.replay import replay_predictions

    begun = time.monotonic()
    done = replay_predictions(settings, as_of)
    stock = done.stock(ticker) if ticker else None
    seconds = time.monotonic() - begun
    for told in (*done.notes, *(f"also: {finding.told}" for finding in done.findings[1:])):
        console.note(told)
    if as_json:
        console.document({**done.row(), "stock": stock, "seconds": round(seconds, 2)})
    else:
        _tell(done, ticker, stock)
    done.require_identical()
    if not as_json:
        console.result(f"{done.verdict}, in {seconds:.1f} s")


def _tell(done: "PredictionReplay", ticker: str | None, stock: list[dict[str, object]] | None) -> None:
    if shown := done.cells(SHOWN_CELLS):
        console.table(f"what differs, {len(shown)} of {done.comparison.cells.height:,} cells", shown)
    if stock:
        console.table(f"{ticker} as-of {done.night.as_of}", stock)
