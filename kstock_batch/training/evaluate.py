"""Members trained on the past, calibrated on what followed, judged on what followed that."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kstock_batch.learners.base import Examples, Member, Probabilities, predict_members
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.learners.lstm import LstmMember
from kstock_batch.learners.lstm_process import fit_apart
from kstock_batch.learners.xgb import XgbMember
from kstock_batch.settings import Settings
from kstock_batch.training.dataset import LabelledRows
from kstock_batch.training.metrics import Skill, skill
from kstock_batch.training.splits import Blocks

Advance = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """What the members of a retrain are worth out of sample.

    Attributes
    ----------
    members : trained on the training block
    raw : name -> uncalibrated probabilities of every window of calibration and judge block, in that order
    judged : name (members and ``blend``) -> probabilities of the judge block, calibrated on the calibration block
    skills : name (members, ``blend`` and ``base_rate``) -> metrics on the judge block
    base_rate : of the training block
    calibration_windows, judge_windows : which windows of the LabelledRows those are
    """

    members: Mapping[str, Member]
    raw: Mapping[str, Probabilities]
    judged: Mapping[str, Probabilities]
    skills: Mapping[str, Skill]
    base_rate: float
    calibration_windows: NDArray[np.int64]
    judge_windows: NDArray[np.int64]


def evaluate(rows: LabelledRows, blocks: Blocks, settings: Settings, advance: Advance) -> Evaluation:
    """Train each member on the training block, calibrate on the next, judge on the last."""
    train, calibrate, judge = (rows.chosen(b) for b in (blocks.train, blocks.calibration, blocks.judge))
    examples = rows.examples(train, stride=settings.sequence_stride)
    members = fit_members(examples, settings, advance)
    later = np.concatenate([calibrate, judge])
    raw = predict_members(members, rows.inputs, rows.ends[later])
    y = rows.label[later].astype(np.float64)
    n = len(calibrate)
    calibration = CalibratedBlend.fit({name: p[:n] for name, p in raw.items()}, y[:n])
    calibrated, blended = calibration.apply({name: p[n:] for name, p in raw.items()})
    base_rate = float(rows.label[train].mean())
    judged = {**calibrated, "blend": blended, "base_rate": np.full(len(judge), base_rate)}
    session = rows.position[judge]
    return Evaluation(
        members=members,
        raw=raw,
        judged=judged,
        skills={name: skill(p, y[n:], session, base_rate) for name, p in judged.items()},
        base_rate=base_rate,
        calibration_windows=calibrate,
        judge_windows=judge,
    )


def fit_members(
    examples: Examples, settings: Settings, advance: Advance, *, like: Mapping[str, Member] | None = None
) -> dict[str, Member]:
    """Return the three members trained on ``examples``; ``like`` gives the LSTM its number of epochs and rates."""
    trees = {"rounds": settings.tree_rounds, "seed": settings.seed, "threads": settings.threads}
    advance("LightGBM")
    lgbm = LgbmMember.fit(examples, **trees)
    advance("XGBoost")
    xgb = XgbMember.fit(examples, **trees)
    advance("LSTM")
    given: dict[str, Any] = {"epochs": settings.lstm_epochs, "stop_early": True}
    if like is not None:
        found = like["lstm"]
        assert isinstance(found, LstmMember)
        given = {"epochs": found.best_epoch, "stop_early": False, "learning_rates": found.learning_rates}
    lstm = fit_apart(
        examples,
        scratch=settings.warehouse / "scratch",
        seed=settings.seed,
        threads=settings.threads,
        on_epoch=lambda epoch, *_: advance(f"LSTM, epoch {epoch} done"),
        **given,
    )
    return {"lgbm": lgbm, "xgb": xgb, "lstm": lstm}
