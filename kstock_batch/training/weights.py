"""The weights of the blend, decided out of fold: the bot's own unless others are proven better, and no passengers.

1. Learned weights (log-loss, within bounds) replace the bot's only if, learned on the other folds, they are better on
   each fold's sessions by a paired test.
2. The LSTM keeps its weight only if the blend with it beats the two trees, in log-loss and in AUC within session and
   volatility quintile: at the bot's weights, else at learned ones, judged on folds they were not learned on. If it
   helps at neither, it is scored, shown and given weight 0.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from kstock_batch.judging.bootstrap import auc_difference, log_loss_difference
from kstock_batch.judging.metrics import log_loss
from kstock_batch.learners.base import Probabilities
from kstock_batch.learners.ensemble import WEIGHTS, WEIGHTS_WITHOUT_LSTM, blend
from kstock_batch.market.contract import HORIZON
from kstock_batch.training.out_of_fold import OutOfFold
from kstock_batch.training.splits import Fold, purged_from

LOWEST, HIGHEST = 0.1, 0.6  # of a learned weight: nobody decides alone, on some hundred sessions
LEARN_ROWS = 100_000


@dataclass(frozen=True)
class ChosenWeights:
    """Weights by member, and why they are what they are."""

    values: Mapping[str, float]
    is_learned: bool
    note: str

    def as_json(self) -> dict[str, Any]:
        """Return JSON values for the manifest."""
        return {**asdict(self), "values": dict(self.values)}


def choose_weights(oof: OutOfFold, folds: tuple[Fold, ...], atr_pct: NDArray[np.float64]) -> ChosenWeights:
    """Return the weights for the members of ``oof``; ``atr_pct`` (N,) makes the volatility quintiles."""
    names = tuple(oof.margins)
    start = start_weights(names)
    if len(names) == 1:
        return ChosenWeights(start, False, f"only {names[0]} is there")
    if len(folds) < 2:
        return ChosenWeights(start, False, "the bot's weights: one fold is none to test others on")
    members, _ = oof.calibrated(folds, start)
    trees = tuple(name for name in names if name != "lstm")
    best = _better_of(start, members, oof, folds)
    if len(trees) == len(names) or not trees:
        return best
    pair = {name: members[name] for name in trees}
    without = blend(pair, start_weights(trees))
    learned = _learned_blend(start, members, oof, folds)
    sentence = _passenger(learned if best.is_learned else blend(members, best.values), without, oof, atr_pct)
    if sentence is None:
        return best
    if not best.is_learned and _passenger(learned, without, oof, atr_pct) is None:
        told = sentence.partition(": with it ")[2]
        note = f"learned weights, with which the LSTM helps: with the bot's own {told}"
        return ChosenWeights(_fitted(members, oof.y, start), True, note)
    if len(trees) == 1:
        alone = ChosenWeights(start_weights(trees), False, "nothing to learn weights from")
    else:
        alone = _better_of(start_weights(trees), pair, oof, folds)
    return ChosenWeights({**alone.values, "lstm": 0.0}, alone.is_learned, f"{sentence}; {alone.note}")


def start_weights(names: tuple[str, ...]) -> dict[str, float]:
    """Return the bot's weights of the members ``names``, scaled to sum to 1."""
    given = WEIGHTS_WITHOUT_LSTM if set(names) == set(WEIGHTS_WITHOUT_LSTM) else WEIGHTS
    total = sum(given[name] for name in names)
    return {name: given[name] if abs(total - 1) < 1e-12 else given[name] / total for name in names}


def _passenger(
    with_it: Probabilities, without: Probabilities, oof: OutOfFold, atr_pct: NDArray[np.float64]
) -> str | None:
    """Return why the LSTM is dropped, or None if it helps."""
    loss = log_loss_difference(with_it, without, oof.y, oof.session)
    order = auc_difference(with_it, without, oof.y, oof.session, atr_pct)
    if loss.mean < 0 and not order.mean > 0:
        return None
    return (
        f"the LSTM's weight is 0: with it the log-loss out of fold changes by {loss.mean:+.6f} and the AUC within"
        f" session and volatility quintile by {-order.mean:+.5f}"
    )


def _better_of(
    start: Mapping[str, float], members: Mapping[str, Probabilities], oof: OutOfFold, folds: tuple[Fold, ...]
) -> ChosenWeights:
    """Return the learned weights if they prove better on folds they were not learned on, else ``start``."""
    learned = _learned_blend(start, members, oof, folds)
    found = log_loss_difference(learned, blend(members, start), oof.y, oof.session)
    told = f"learned ones change the log-loss of the folds they were not learned on by {found.mean:+.6f}"
    told += f" ({found.low:+.6f} … {found.high:+.6f})"
    if not found.high < 0:
        return ChosenWeights(dict(start), False, f"the bot's weights: {told}")
    return ChosenWeights(_fitted(members, oof.y, start), True, f"learned weights: {told}")


def _learned_blend(
    start: Mapping[str, float], members: Mapping[str, Probabilities], oof: OutOfFold, folds: tuple[Fold, ...]
) -> Probabilities:
    """Return the blend (N,) of each fold by weights learned on the others, whose labels do not touch its own."""
    out = np.full(len(oof.y), np.nan)
    for number, fold in enumerate(folds):
        others = np.flatnonzero(np.isin(oof.session, purged_from(np.unique(oof.session), fold, HORIZON)))
        here = np.flatnonzero(oof.fold == number)
        weights = _fitted({name: p[others] for name, p in members.items()}, oof.y[others], start)
        out[here] = blend({name: p[here] for name, p in members.items()}, weights)
    return out


def _fitted(
    members: Mapping[str, Probabilities], y: NDArray[np.float64], start: Mapping[str, float]
) -> dict[str, float]:
    """Return the weights with the lowest log-loss within bounds."""
    names = list(members)
    every = max(1, len(y) // LEARN_ROWS)
    p, outcome = np.stack([members[name][::every] for name in names]), y[::every]
    found = minimize(
        lambda weights: log_loss(weights @ p, outcome),
        x0=np.array([start[name] for name in names]),
        bounds=[(LOWEST, HIGHEST if len(names) > 2 else 1 - LOWEST)] * len(names),
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-10},  # of a loss near 0.5 the weights move the fourth digit
    )
    weights = np.clip(found.x, 0, 1) / np.clip(found.x, 0, 1).sum()
    return {name: round(float(weight), 4) for name, weight in zip(names, weights, strict=True)}
