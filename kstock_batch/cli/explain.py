"""The command that says why a stock has the prediction it has."""

from collections.abc import Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import click

from kstock_batch import console
from kstock_batch.cli.completion import tickers
from kstock_batch.cli.options import SESSION_DATE, as_json
from kstock_batch.settings import Settings

if TYPE_CHECKING:
    from kstock_batch.serving.questions.explain import Explanation, LstmReasons, Sum
    from kstock_batch.serving.questions.history import History

HALF = 10  # characters on either side of a bar's zero
SHOWN = ("probability", "signal", "label", "lift", "lgbm", "xgb", "lstm")
N_HISTORY = 60  # sessions: a strip of as many characters fits a terminal of 80 columns
N_LISTED = 10  # of them told one by one; --json has all
STEPS = "▁▂▃▄▅▆▇█"
CAME_TRUE = {True: "+", False: "·", None: "?"}


@click.command()
@click.argument("ticker", shell_complete=tickers)
@click.option("--as-of", type=SESSION_DATE, help="Session to explain.  [default: the newest that can be scored]")
@click.option(
    "--history",
    "n_history",
    type=click.IntRange(0, 5000),
    default=N_HISTORY,
    show_default=True,
    help="How many earlier predictions to tell, with what came true.",
)
@as_json
@click.pass_obj
def explain(settings: Settings, ticker: str, as_of: date | None, n_history: int, as_json: bool) -> None:
    """Say why TICKER has its prediction: what each column adds, and which of its bars the LSTM looks at.

    Below that stands what was said of it before, and what came true. All is computed anew by the champion from the
    stored features; nothing is written. Numbers under "adds" are log-odds above (+) or below (-) the level that all
    stocks of the session share.

    \b
    Examples:
      kstock-batch explain 005930
      kstock-batch explain 005930 --as-of 2024-07-01 --json
    """
    from kstock_batch.champion import Champion
    from kstock_batch.registry import Registry
    from kstock_batch.serving.questions.explain import explain_stock
    from kstock_batch.store.warehouse import Warehouse

    with Warehouse.read(settings) as warehouse:
        champion = Champion.load(Registry(settings.models).champion())
        told = explain_stock(warehouse.con, settings, champion, ticker, as_of, n_history=n_history)
    for note in told.notes:
        console.note(f"note: {note}")
    if as_json:
        console.document(told.row())
        return
    _show(told)


def _show(told: "Explanation") -> None:
    prediction = told.prediction
    row = {name: prediction.get(name) for name in SHOWN}
    console.table(f"{told.stock} as-of {told.stock.as_of}, by {told.model_version}", [row])
    if told.trees is not None:
        console.table("the trees: why it stands out from the session", list(_terms(told.trees)))
    if told.lstm is not None:
        console.table("the LSTM: its bars", list(_bars(told.lstm)))
        console.table("the LSTM: its columns, ranks of the last bar as values", list(_lstm_terms(told.lstm)))
    if told.history.past:
        _show_history(told.history)
    rank = f"rank {prediction['rank']:,} of {told.n_scored:,}"
    console.result(
        f"{told.stock} as-of {told.stock.as_of}: {prediction['probability']:.4f}, {rank}, {told.against_stored}"
    )


def _show_history(told: "History") -> None:
    listed = [
        {
            "session": one.as_of,
            "probability": one.probability,
            "label": one.label,
            "rank": one.rank,
            "came true": {True: "rose", False: "did not rise", None: "not known yet"}[one.rose],
            "return %": None if one.forward_return is None else 100 * one.forward_return,
        }
        for one in reversed(told.past[-N_LISTED:])
    ]
    console.table("what was said of it before, newest first", listed)
    first, last = told.past[0].as_of, told.past[-1].as_of
    for start in range(0, len(told.past), N_HISTORY):  # a strip is as long as a line
        some = told.past[start : start + N_HISTORY]
        console.result(f"probability  {strip([one.probability for one in some])}")
        console.result(f"came true    {''.join(CAME_TRUE[one.rose] for one in some)}")
    console.result(f"{first} … {last}; + rose, · did not, ? not known yet: {told.sentence}\n")


def strip(shares: Sequence[float]) -> str:
    """Return one block a probability, as high as it is: the lowest block below 1/8, the highest from 7/8 on."""
    return "".join(STEPS[min(int(share * len(STEPS)), len(STEPS) - 1)] for share in shares)


def _terms(told: "Sum") -> Iterator[dict[str, Any]]:
    """Yield the rows of a sum that adds up."""
    largest = max((abs(term.adds) for term in told.terms), default=0.0)
    for term in told.terms:
        yield _row(term.column, term.value, term.adds, sign_bar(term.adds, largest))
    yield _row(f"{told.n_others} other columns", None, told.others, sign_bar(told.others, largest))
    yield _row("together", None, told.total, "")


def _lstm_terms(told: "LstmReasons") -> Iterator[dict[str, Any]]:
    yield from _terms(told.columns)
    yield _row("the same for every stock", None, told.offset, "")
    yield _row("above the session's level", None, told.standing, "")


def _row(column: str, value: float | None, adds: float, bar: str) -> dict[str, Any]:
    return {"column": column, "value": value, "adds": adds, "- | +": bar}


def _bars(told: "LstmReasons") -> Iterator[dict[str, Any]]:
    most, largest = max(bar.attention for bar in told.bars), max(abs(bar.adds) for bar in told.bars)
    for bar in told.bars:
        looked = "#" * round(HALF * bar.attention / most)
        signed = sign_bar(bar.adds, largest)
        yield {"session": bar.session, "attention": bar.attention, "looks": looked, "adds": bar.adds, "- | +": signed}


def sign_bar(value: float, largest: float) -> str:
    """Return a bar that grows from its middle: to the right for a positive value, to the left for a negative one."""
    length = min(HALF, round(HALF * abs(value) / largest)) if largest else 0
    left, right = ("", "+" * length) if value >= 0 else ("-" * length, "")
    return f"{left:>{HALF}}|{right}"
