"""The XGBoost member: boosted trees over the values of the last bar, grown level by level."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xgboost as xgb

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import FloatRows, RowNumbers
from kstock_batch.files import write_atomically
from kstock_batch.learners.base import Examples, Inputs, Margins, Probabilities
from kstock_batch.learners.boosting import BoostingRecipe, Progress
from kstock_batch.learners.calibration import logit, loss_in_sessions, sigmoid
from kstock_batch.learners.inputs import learnt_rows, require_columns
from kstock_batch.learners.tree_paths import Trees, xgboost_trees

PARAMETERS: dict[str, Any] = {  # for the reasons given in lgbm.py
    "objective": "binary:logistic",
    "tree_method": "hist",
    "eta": 0.03,
    "max_depth": 5,
    "subsample": 0.7,
    "colsample_bytree": 0.7,
    "lambda": 10.0,
    "verbosity": 0,
}
MIN_HESSIAN_IN_LEAF = 100.0  # about 550 rows at a base rate of 24 %: a row weighs p (1 - p)
ROWS_PER_HESSIAN = 2000


@dataclass(frozen=True)
class XgbMember:
    """Boosted trees, stored as UBJSON.

    ``facts`` say how it was trained; a member that was loaded has none, its manifest does.
    """

    name: ClassVar[str] = "xgb"
    file_name: ClassVar[str] = "xgb.ubj"

    booster: xgb.Booster
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def fit(cls, examples: Examples, recipe: BoostingRecipe, validation: Examples | None = None) -> Self:
        """Return the member trained by ``recipe``; the same arguments give the same bytes.

        With ``validation`` it keeps the rounds that tell stocks apart best there, inside sessions.
        """
        own: dict[str, Any] = {"seed": recipe.seed, "nthread": recipe.threads}
        if _start(examples, recipe) is not None:
            own["base_score"] = 0.5  # else the mean rate is added to what already learnt it, starting without it
        parameters = own_parameters(len(examples.ends)) | own | dict(recipe.parameters)
        progress = Progress(recipe)
        data = _matrix(examples, recipe)
        watched: dict[str, Any] = {}
        if validation is not None:
            session = validation.inputs.session[validation.ends]

            def within(p: Any, _: xgb.DMatrix) -> tuple[str, float]:  # the base margins are already in it
                return "loss_in_sessions", loss_in_sessions(logit(p), validation.label, session)

            evals = [(_matrix(validation, recipe, reference=data), "validation")]
            watched = {"evals": evals, "custom_metric": within, "verbose_eval": False}
        booster = xgb.train(
            parameters | {"disable_default_eval_metric": True},
            data,
            num_boost_round=recipe.rounds,
            callbacks=[_Watch(progress)],
            **watched,
        )
        if progress.best_round < booster.num_boosted_rounds():
            booster = booster[: progress.best_round]
        facts = {"parameters": parameters, "learns_level": recipe.learns_level, **progress.facts()}
        return cls(booster, facts)

    @property
    def rounds(self) -> int:
        """Number of trees."""
        return int(self.booster.num_boosted_rounds())

    def margin(self, inputs: Inputs, ends: RowNumbers) -> Margins:
        """Return log-odds of shape (N,) for the rows ``ends``."""
        require_columns(inputs, self.booster.feature_names or [], self.file_name)
        if not len(ends):
            return np.empty(0)
        data = xgb.DMatrix(inputs.rows(ends), feature_names=list(inputs.tabular_names), feature_types=_types(inputs))
        return np.asarray(self.booster.predict(data, output_margin=True), dtype=np.float64)

    def predict(self, inputs: Inputs, ends: RowNumbers) -> Probabilities:
        """Return uncalibrated probabilities of shape (N,) for the rows ``ends``."""
        return sigmoid(self.margin(inputs, ends))

    def trees(self) -> Trees:
        """Return its trees as arrays."""
        return xgboost_trees(self.booster)

    def save(self, folder: Path) -> None:
        """Write ``folder``/xgb.ubj."""
        write_atomically(folder / self.file_name, bytes(self.booster.save_raw("ubj")))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        path = folder / cls.file_name
        booster = xgb.Booster()
        try:
            content = path.read_bytes()
            if not content:  # given no bytes at all, XGBoost ends the process instead of raising
                raise OSError("it is empty")
            booster.load_model(bytearray(content))
        except (OSError, xgb.core.XGBoostError) as error:
            reason = str(error).partition("\n")[0]  # what follows is a stack trace of C++
            raise ModelRefused(
                f"{path} cannot be read: {reason}",
                fix="promote another with `kstock-batch models promote VERSION`, or retrain",
            ) from error
        return cls(booster)

    def card(self) -> dict[str, Any]:
        """Return rounds, parameters and each column's share of the gain."""
        gain = {
            name: float(np.sum(value)) for name, value in self.booster.get_score(importance_type="total_gain").items()
        }
        total = max(sum(gain.values()), 1e-12)
        return {
            "rounds": self.rounds,
            **self.facts,
            "gain_share": {name: round(gain.get(name, 0.0) / total, 4) for name in self.booster.feature_names or []},
        }


def own_parameters(n_rows: int) -> dict[str, Any]:
    """Return the parameters by which it learns from ``n_rows`` unless told others."""
    return PARAMETERS | {"min_child_weight": max(1.0, min(MIN_HESSIAN_IN_LEAF, n_rows / ROWS_PER_HESSIAN))}


def _types(inputs: Inputs) -> list[str]:
    """Return XGBoost's letter for each column: c = category, q = quantity."""
    return ["c" if name in inputs.categorical else "q" for name in inputs.tabular_names]


def _matrix(
    examples: Examples, recipe: BoostingRecipe, reference: xgb.QuantileDMatrix | None = None
) -> xgb.QuantileDMatrix:
    inputs = examples.inputs
    return xgb.QuantileDMatrix(
        learnt_rows(inputs, examples.ends, learns_level=recipe.learns_level),
        label=examples.label,
        base_margin=_start(examples, recipe),
        feature_names=list(inputs.tabular_names),
        feature_types=_types(inputs),
        nthread=recipe.threads,
        ref=reference,
    )


def _start(examples: Examples, recipe: BoostingRecipe) -> FloatRows | None:
    """Return the log-odds at which each row starts, None where the outcomes are learnt as they are."""
    return None if recipe.learns_level else examples.offset


class _Watch(xgb.callback.TrainingCallback):
    """Tells ``Progress`` of every round."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def after_iteration(self, model: Any, epoch: int, evals_log: xgb.callback.TrainingCallback.EvalsLog) -> bool:
        losses: list[Any] = [values[-1] for metrics in evals_log.values() for values in metrics.values()]
        return self._progress.seen(epoch + 1, float(losses[0]) if losses else None)
