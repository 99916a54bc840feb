"""Why the champion says what it says of one stock in one session, computed anew from what the night computes it from.

Everything is in log-odds above the level of the session: what a stock has beyond what all scored stocks have in common.
The trees' terms add up to the standing that they give it (``learners.explain``). The LSTM's terms are its integrated
gradients (``learners.lstm_explain``) times its calibrator's slope: they add up to how its window differs from an
average one of training, and ``offset``, which all stocks share, leads from there to its standing tonight.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, cast

import duckdb
import numpy as np

from kstock_batch.champion import Champion
from kstock_batch.errors import ModelRefused
from kstock_batch.features.completeness import require_complete
from kstock_batch.features.windows import FloatRows, gather
from kstock_batch.learners.base import Probabilities
from kstock_batch.learners.calibration import Floats, logit
from kstock_batch.learners.lstm import LstmMember
from kstock_batch.learners.lstm_explain import explain_window
from kstock_batch.market.contract import FEATURE_NAMES, WINDOW
from kstock_batch.serving.night.score import prediction_rows, require_out_of_sample
from kstock_batch.serving.night.session_windows import SessionWindows
from kstock_batch.serving.questions.history import History
from kstock_batch.serving.questions.stock_asked import StockAsked
from kstock_batch.settings import Settings

TOP = 10
SAME = 1e-9  # probabilities nearer than this are one


@dataclass(frozen=True)
class Term:
    """What one column adds, and the value a model read in it: the last bar's; None = unknown."""

    column: str
    value: float | None
    adds: float


@dataclass(frozen=True)
class Sum:
    """The largest terms by size, what the ``n_others`` together add, and the ``total`` of all."""

    terms: tuple[Term, ...]
    n_others: int
    others: float
    total: float


@dataclass(frozen=True)
class Bar:
    """One of the LSTM's bars: how much of its attention it has, and what its values add."""

    session: date
    attention: float
    adds: float


@dataclass(frozen=True)
class LstmReasons:
    """The LSTM's bars, oldest first, and columns; ``columns.total`` + ``offset`` is the ``standing`` it gives."""

    bars: tuple[Bar, ...]
    columns: Sum
    offset: float
    standing: float


@dataclass(frozen=True)
class Explanation:
    """One stock's prediction and its reasons.

    Attributes
    ----------
    prediction : what a row of ``prediction`` would say of it, computed now
    n_scored : stocks scored in the session, among which it ranks
    stored : the stored probability and the model it is of; None = that session is not scored
    trees, lstm : None where ``notes`` say why
    history : what was said of it before, and what came true
    """

    stock: StockAsked
    model_version: str
    prediction: dict[str, Any]
    n_scored: int
    stored: tuple[float, str] | None
    trees: Sum | None
    lstm: LstmReasons | None
    notes: tuple[str, ...]
    history: History

    @property
    def against_stored(self) -> str:
        """Return whether this is what the store says of it, and if not why, and what to do."""
        as_of = self.stock.as_of
        if self.stored is None:
            return f"not scored yet: `kstock-batch score --as-of {as_of}` does"
        probability, version = self.stored
        if version != self.model_version:
            return (
                f"the stored {probability:.4f} is of model {version}: `kstock-batch score --as-of {as_of}` replaces it"
            )
        if abs(probability - self.prediction["probability"]) > SAME:
            again = f"`kstock-batch score --as-of {as_of} --force` scores it anew"
            return f"the stored {probability:.4f} differs, for the features have changed since: {again}"
        return "as stored"

    def row(self) -> dict[str, Any]:
        """Return JSON values."""
        stored = None if self.stored is None else dict(zip(("probability", "model_version"), self.stored, strict=True))
        return {
            "ticker": self.stock.ticker,
            "name": self.stock.name,
            "as_of": self.stock.as_of,
            "model_version": self.model_version,
            **self.prediction,
            "n_scored": self.n_scored,
            "stored": stored,
            "against_stored": self.against_stored,
            "reasons": {
                "trees": None if self.trees is None else asdict(self.trees),
                "lstm": None if self.lstm is None else asdict(self.lstm),
            },
            "notes": list(self.notes),
            "history": self.history.rows(),
        }


def explain_stock(
    con: duckdb.DuckDBPyConnection,
    settings: Settings,
    champion: Champion,
    ticker: str,
    as_of: date | None,
    *,
    n_history: int = 0,
) -> Explanation:
    """Return the reasons of ``ticker``'s prediction as-of a session, by default the newest that can be scored.

    With them come its last ``n_history`` stored predictions up to that session.
    """
    stock = StockAsked.find(con, settings, ticker, as_of)
    require_out_of_sample(champion.version, stock.as_of)
    require_complete(con, stock.as_of, settings)
    windows = SessionWindows.read(con, stock.as_of)
    at = windows.tickers["ticker"].index_of(ticker)
    if at is None:
        raise stock.not_scoreable()
    members, blended = champion.predict(windows.inputs, windows.ends)
    rows = prediction_rows(windows.tickers, members, blended, champion, stock.as_of)
    shown = ("probability", "signal", "label", "score_bonus", "base_rate", "lift", "rank", "percentile", *members)
    trees, lstm = _trees(champion, windows, at), _lstm(champion, windows, at, members)
    return Explanation(
        stock=stock,
        model_version=champion.version.version,
        prediction=rows.select(shown).row(at, named=True),
        n_scored=rows.height,
        stored=_stored(con, stock),
        trees=trees,
        lstm=lstm,
        notes=_notes(champion, has_trees=trees is not None, has_lstm=lstm is not None),
        history=History.of(con, ticker, stock.as_of, n_history),
    )


def _trees(champion: Champion, windows: SessionWindows, at: int) -> Sum | None:
    by_column = champion.explain(windows.inputs, windows.ends)
    if not by_column.shape[1]:
        return None
    return _largest(windows.inputs.tabular_names, windows.inputs.rows(windows.ends[at : at + 1])[0], by_column[at])


def _lstm(
    champion: Champion, windows: SessionWindows, at: int, members: dict[str, Probabilities]
) -> LstmReasons | None:
    if "lstm" not in champion.members:
        return None
    end = int(windows.ends[at])
    window = gather(windows.inputs.sequence, windows.ends[at : at + 1])[0]  # (T, F)
    found = explain_window(cast(LstmMember, champion.members["lstm"]), window)
    adds: Floats = champion.calibration.members["lstm"].slope * found.contributions  # (T, F)
    level = logit(members["lstm"])
    standing = float(level[at] - level.mean())
    days = windows.bars.frame["as_of"][end - WINDOW + 1 : end + 1].to_list()
    bars = zip(days, found.attention.tolist(), adds.sum(axis=1).tolist(), strict=True)
    columns = _largest(FEATURE_NAMES, window[-1], adds.sum(axis=0))
    return LstmReasons(tuple(Bar(*bar) for bar in bars), columns, standing - columns.total, standing)


def _largest(names: Sequence[str], values: FloatRows, adds: Floats) -> Sum:
    """Return the ``TOP`` largest of D terms by size, of ``values`` (D,) and what they add (D,)."""
    order = np.argsort(-np.abs(adds), kind="stable")
    known = [None if np.isnan(value) else float(value) for value in values]
    top = [int(column) for column in order[:TOP]]
    terms = tuple(Term(names[column], known[column], float(adds[column])) for column in top)
    return Sum(terms, len(order) - len(top), float(adds[order[TOP:]].sum()), float(adds.sum()))


def _notes(champion: Champion, *, has_trees: bool, has_lstm: bool) -> tuple[str, ...]:
    """Return a sentence about each part that cannot be explained, or raise if none can."""
    version = champion.version.version
    if not has_trees and not has_lstm:
        raise ModelRefused(
            f"model {version} cannot be explained: no tree has weight in its blend, and it has no LSTM",
            fix="promote another with `kstock-batch models promote VERSION`, or retrain",
        )
    notes = [champion.warning] if champion.warning else []
    if not has_trees:
        notes.append(f"no tree has weight in the blend of {version}: only a retrain with lightgbm or xgboost gives one")
    if not has_lstm:
        notes.append(f"model {version} has no LSTM: only a retrain with torch installed gives one")
    return tuple(notes)


def _stored(con: duckdb.DuckDBPyConnection, stock: StockAsked) -> tuple[float, str] | None:
    found = con.execute(
        "SELECT probability, model_version FROM prediction WHERE as_of = $as_of AND ticker = $ticker",
        {"as_of": stock.as_of, "ticker": stock.ticker},
    ).fetchall()
    return (found[0][0], found[0][1]) if found else None
