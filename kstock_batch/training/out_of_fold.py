"""Out-of-fold: what members say of sessions that none of their labels reaches, fold after fold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kstock_batch.features.windows import RowNumbers
from kstock_batch.learners.base import Inputs, Margins, Probabilities, member_margins
from kstock_batch.learners.calibration import Sessions, parts, sigmoid
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.linear import FLOORS, LogisticModel, fit_floors
from kstock_batch.market.contract import HORIZON
from kstock_batch.settings import Settings
from kstock_batch.training.dataset import LabelledRows
from kstock_batch.training.fitting import STOP_SHARE, Duration, Fitter, StopExamples, durations, level_member
from kstock_batch.training.splits import Fold, purged_from, require_purged, stop_split


@dataclass(frozen=True)
class OutOfFold:
    """What the folds' models say of the windows they were not trained on.

    Attributes
    ----------
    windows : (N,) which windows of the LabelledRows, in the order of the folds
    fold : (N,) number of the fold
    session : (N,) position of the window's session
    y : (N,) float64 outcomes
    margins : member -> (N,) log-odds
    floors : floor -> (N,) probabilities
    level : (N,) log-odds, constant within a session
    base_rate : (N,) of the training part of the fold
    durations : member -> how long the first fold's stopping block had it trained
    """

    windows: NDArray[np.int64]
    fold: NDArray[np.int64]
    session: Sessions
    y: NDArray[np.float64]
    margins: Mapping[str, Margins]
    floors: Mapping[str, Probabilities]
    level: Margins
    base_rate: NDArray[np.float64]
    durations: Mapping[str, Duration]

    def calibrated(
        self, folds: tuple[Fold, ...], weights: Mapping[str, float]
    ) -> tuple[dict[str, Probabilities], Probabilities]:
        """Return members and blend (N,), each fold calibrated on the others, whose labels do not touch its own."""
        members = {name: np.full(len(self.y), np.nan) for name in self.margins}
        blended = np.full(len(self.y), np.nan)
        for number, fold in enumerate(folds):
            here = np.flatnonzero(self.fold == number)
            others = np.flatnonzero(np.isin(self.session, purged_from(np.unique(self.session), fold, HORIZON)))
            fitted = self.calibration(weights, others)
            margins = {name: margin[here] for name, margin in self.margins.items()}
            own, blended[here] = fitted.apply(margins, self.level[here], self.session[here])
            for name, p in own.items():
                members[name][here] = p
        return members, blended

    def calibration(self, weights: Mapping[str, float], of: NDArray[np.int64] | None = None) -> CalibratedBlend:
        """Return calibrators fitted to all windows, or to those at positions ``of``."""
        chosen = np.arange(len(self.y)) if of is None else of
        margins = {name: margin[chosen] for name, margin in self.margins.items()}
        return CalibratedBlend.fit(margins, self.level[chosen], self.y[chosen], self.session[chosen], weights)

    def part(self, names: tuple[str, ...]) -> "OutOfFold":
        """Return the same with only the named members."""
        return OutOfFold(**{**self.__dict__, "margins": {name: self.margins[name] for name in names}})


def out_of_fold(rows: LabelledRows, folds: tuple[Fold, ...], settings: Settings, fitter: Fitter) -> OutOfFold:
    """Return what models trained before each fold say of it.

    The first fold finds how long to train, on the last sessions before it; the later folds follow that.
    """
    found: dict[str, Duration] | None = None
    pieces = []
    for number, fold in enumerate(folds):
        require_purged(fold, HORIZON)
        train = rows.examples(rows.chosen(fold.train), **strides(settings))
        members = fitter.fit(train, stop_examples(rows, fold, settings) if found is None else None, found)
        found = durations(members) if found is None else found
        test = rows.chosen(fold.test)
        ends, session = rows.ends[test], rows.position[test]
        floors = fit_floors(train)
        pieces.append(
            OutOfFold(
                windows=test,
                fold=np.full(len(test), number),
                session=session,
                y=rows.label[test].astype(np.float64),
                margins=(margins := member_margins(members, rows.inputs, ends)),
                floors={name: sigmoid(floor.margin(rows.inputs, ends)) for name, floor in floors.items()},
                level=session_level(margins, floors["volatility"], rows.inputs, ends, session),
                base_rate=np.full(len(test), float(rows.label[rows.chosen(fold.train)].mean())),
                durations=found,
            )
        )
    return _joined(pieces)


def session_level(
    margins: Mapping[str, Margins], volatility: LogisticModel, inputs: Inputs, ends: RowNumbers, session: Sessions
) -> Margins:
    """Return the level of each window's session (N,): of the member that learns it, else of the volatility model."""
    name = level_member(tuple(margins))
    z = volatility.margin(inputs, ends) if name is None else margins[name]
    return parts(z, session)[0]


def stop_examples(rows: LabelledRows, fold: Fold, settings: Settings) -> StopExamples:
    """Return the training part of ``fold``, its last sessions held out to say when to stop."""
    stop = stop_split(fold.train, share=STOP_SHARE, horizon=HORIZON)
    train, validation = (rows.examples(rows.chosen(part), **strides(settings)) for part in (stop.train, stop.test))
    return StopExamples(train, validation)


def strides(settings: Settings) -> dict[str, int]:
    """Return how thinly trees and LSTM take their windows."""
    return {"tree_stride": settings.tree_stride, "sequence_stride": settings.sequence_stride}


def judged_table(rows: LabelledRows, oof: OutOfFold, columns: Mapping[str, Probabilities]) -> pl.DataFrame:
    """Return the rows of judged.parquet: keys, outcome, fold, base rate, floors and the named columns."""
    given = {"fold": oof.fold, "base": oof.base_rate, **{name: oof.floors[name] for name in FLOORS}, **columns}
    return rows.keys[oof.windows].with_columns(**{name: pl.Series(name, values) for name, values in given.items()})


def _joined(pieces: list[OutOfFold]) -> OutOfFold:
    def whole(name: str) -> NDArray[np.generic]:
        return np.concatenate([getattr(piece, name) for piece in pieces])

    def by_name(name: str) -> dict[str, NDArray[np.float64]]:
        return {
            key: np.concatenate([getattr(piece, name)[key] for piece in pieces]) for key in getattr(pieces[0], name)
        }

    arrays = {name: whole(name) for name in ("windows", "fold", "session", "y", "level", "base_rate")}
    tables = {name: by_name(name) for name in ("margins", "floors")}
    return OutOfFold(**arrays, **tables, durations=pieces[0].durations)  # type: ignore[arg-type]  # each of its own type
