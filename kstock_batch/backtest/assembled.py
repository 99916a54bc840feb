"""From what members said to predictions: calibrators and weights as a retrain chooses them, and other blends.

A fold that a refit did not train is one whose sessions the models of earlier refits have scored: what they said of
them was out of sample too, and an outcome of it counts once the refit's own night knew it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from kstock_batch.backtest.plan import Plan, Refit
from kstock_batch.backtest.refit import MARGIN, OUT_OF_FOLD, SAID
from kstock_batch.backtest.walk import WalkFolder
from kstock_batch.learners.base import Probabilities
from kstock_batch.learners.calibration import Calibrator
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.linear import FLOORS
from kstock_batch.settings import Settings
from kstock_batch.training.gate import Verdict, judge_challenger
from kstock_batch.training.out_of_fold import OutOfFold
from kstock_batch.training.retrain import folds_of, judged_columns
from kstock_batch.training.splits import Fold
from kstock_batch.training.weights import ChosenWeights, choose_weights, start_weights

BLEND, UNCALIBRATED = "blend", "uncalibrated"


@dataclass(frozen=True)
class Proven:
    """What a refit's night knew of its members out of sample."""

    oof: OutOfFold
    folds: tuple[Fold, ...]
    atr_pct: Probabilities


@dataclass(frozen=True)
class Assembled:
    """The predictions of one refit's model.

    Attributes
    ----------
    refit, facts : what was trained
    weights : of its blend
    verdict : of the gate, which decides nothing here; no champion is compared
    rows : ticker, as_of, atr_pct, base_rate, label_5d, forward_return, known_on, and one column a variant
    """

    refit: Refit
    facts: Mapping[str, Any]
    weights: ChosenWeights
    verdict: Verdict
    rows: pl.DataFrame


def assemble(plan: Plan, folder: WalkFolder, settings: Settings, number: int, labels: pl.DataFrame) -> Assembled:
    """Return the predictions of refit ``number``; ``labels`` are rows of label_daily."""
    refit, facts = plan.refits[number], folder.facts(plan.refits[number])
    proven = proven_by(plan, folder, settings, number, labels)
    weights = choose_weights(proven.oof, proven.folds, proven.atr_pct)
    said = pl.read_parquet(folder.refit(refit) / SAID)
    keys = said.select("ticker", "as_of", "atr_pct", "base_rate").join(
        labels, on=["ticker", "as_of"], how="left", maintain_order="left", validate="1:1"
    )
    rows = keys.with_columns(
        **{name: pl.Series(p) for name, p in variants(proven.oof, weights, said).items()},
        **{name: said[name] for name in FLOORS},
    )
    return Assembled(refit, facts, weights, _verdict(proven, weights), rows)


def proven_by(plan: Plan, folder: WalkFolder, settings: Settings, number: int, labels: pl.DataFrame) -> Proven:
    """Return what was known on the refit's night of what its members, or their predecessors, say out of sample."""
    refit = plan.refits[number]
    sessions = [date.fromisoformat(day) for day in folder.facts(refit)["sessions"]]
    folds = folds_of(len(sessions), settings)
    own = pl.read_parquet(folder.refit(refit) / OUT_OF_FOLD)
    parts = [own.with_columns(pl.col("fold").cast(pl.Int64), pl.col("label_5d").cast(pl.Float64))]
    known = labels.filter(pl.col("known_on") <= refit.as_of, pl.col("label_5d").is_not_null())
    for fold_number in range(refit.n_fitted, len(folds)):
        days = [sessions[position] for position in folds[fold_number].test]
        for earlier in plan.refits[:number]:
            if earlier.last < days[0] or earlier.first > days[-1]:
                continue
            said = pl.read_parquet(folder.refit(earlier) / SAID).filter(pl.col("as_of").is_between(days[0], days[-1]))
            outcome = known.select("ticker", "as_of", pl.col("label_5d").cast(pl.Float64))
            told = said.join(outcome, on=["ticker", "as_of"], how="inner", validate="1:1")
            parts.append(told.with_columns(fold=pl.lit(fold_number, dtype=pl.Int64)).select(parts[0].columns))
    rows = pl.concat(parts)
    position = rows["as_of"].replace_strict(sessions, np.arange(len(sessions)), return_dtype=pl.Int64).to_numpy()
    oof = OutOfFold(
        windows=np.arange(rows.height),
        fold=rows["fold"].to_numpy(),
        session=position,
        y=rows["label_5d"].to_numpy(),
        margins=_margins(rows),
        floors={name: rows[name].to_numpy() for name in FLOORS},
        level=rows["level"].to_numpy(),
        base_rate=rows["base_rate"].to_numpy(),
        durations={},
    )
    return Proven(oof, folds, rows["atr_pct"].cast(pl.Float64).to_numpy())


def variants(oof: OutOfFold, weights: ChosenWeights, said: pl.DataFrame) -> dict[str, Probabilities]:
    """Return what would be published (``blend``), each member, and what other members or no calibration would say."""
    margins, level = _margins(said), said["level"].to_numpy()
    session = said["as_of"].to_physical().cast(pl.Int64).to_numpy()
    members, blend = oof.calibration(weights.values).apply(margins, level, session)
    found = {BLEND: blend, **members}
    names = tuple(margins)
    for size in range(2, len(names) + 1):
        for some in combinations(names, size):
            calibration = oof.part(some).calibration(start_weights(some))
            _, found["+".join(some)] = calibration.apply({name: margins[name] for name in some}, level, session)
    plain = CalibratedBlend({name: Calibrator() for name in names}, weights.values, Calibrator())
    found[UNCALIBRATED] = plain.apply(margins, level, session)[1]
    return found


def _margins(rows: pl.DataFrame) -> dict[str, Probabilities]:
    return {name.removeprefix(MARGIN): rows[name].to_numpy() for name in rows.columns if name.startswith(MARGIN)}


def _verdict(proven: Proven, weights: ChosenWeights) -> Verdict:
    oof = proven.oof
    challenger = judged_columns(oof, proven.folds, weights)["blend"]
    given = {"session": oof.session, "label": oof.y, "atr_pct": proven.atr_pct, "challenger": challenger}
    return judge_challenger({**given, "base": oof.base_rate, **oof.floors})
