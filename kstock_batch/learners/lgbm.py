"""The LightGBM member: boosted trees over the values of the last bar."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import RowNumbers
from kstock_batch.files import write_atomically
from kstock_batch.learners.base import Examples, Inputs, Margins, Probabilities
from kstock_batch.learners.boosting import BoostingRecipe, Progress
from kstock_batch.learners.calibration import logit, loss_in_sessions, sigmoid
from kstock_batch.learners.inputs import learnt_rows, require_columns
from kstock_batch.learners.tree_paths import Trees, lightgbm_trees

# About 1 M rows that overlap and are mostly noise: slow steps, large leaves.
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "cat_smooth": 50.0,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
END_OF_MODEL = "end of parameters"  # all that follows it in the text is optional
MIN_ROWS_IN_LEAF = 500
ROWS_PER_LEAF = 400  # small data: a leaf of 500 rows would leave nothing to split


@dataclass(frozen=True)
class LgbmMember:
    """Boosted trees, stored as LightGBM's text.

    Attributes
    ----------
    facts : how it was trained; a member that was loaded has none, its manifest does
    text : what it was loaded from: LightGBM takes longer to write it once more than we to read it
    """

    name: ClassVar[str] = "lgbm"
    file_name: ClassVar[str] = "lgbm.txt"

    booster: lgb.Booster
    facts: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None

    @classmethod
    def fit(cls, examples: Examples, recipe: BoostingRecipe, validation: Examples | None = None) -> Self:
        """Return the member trained by ``recipe``; the same arguments give the same bytes.

        With ``validation`` it keeps the rounds that tell stocks apart best there, inside sessions.
        """
        own = {"seed": recipe.seed, "num_threads": recipe.threads}
        parameters = own_parameters(len(examples.ends)) | own | dict(recipe.parameters)
        data = _dataset(examples, recipe, parameters)
        progress = Progress(recipe)
        watched: dict[str, Any] = {}
        if validation is not None:
            session = validation.inputs.session[validation.ends]

            def within(p: Any, _: Any) -> tuple[str, float, bool]:  # probabilities, where each row starts already in it
                return "loss in sessions", loss_in_sessions(logit(p), validation.label, session), False

            watched = {"valid_sets": [_dataset(validation, recipe, parameters, reference=data)], "feval": within}
        booster = lgb.train(
            parameters | {"metric": "None"},
            data,
            num_boost_round=recipe.rounds,
            callbacks=[_watch(progress)],
            **watched,
        )
        if progress.best_round < booster.current_iteration():
            booster = lgb.Booster(model_str=booster.model_to_string(num_iteration=progress.best_round))
        facts = {"parameters": parameters, "learns_level": recipe.learns_level, **progress.facts()}
        return cls(booster, facts)

    @property
    def rounds(self) -> int:
        """Number of trees."""
        return int(self.booster.num_trees())

    def margin(self, inputs: Inputs, ends: RowNumbers) -> Margins:
        """Return log-odds of shape (N,) for the rows ``ends``."""
        require_columns(inputs, self.booster.feature_name(), self.file_name)
        if not len(ends):
            return np.empty(0)
        return np.asarray(self.booster.predict(inputs.rows(ends), raw_score=True), dtype=np.float64)

    def predict(self, inputs: Inputs, ends: RowNumbers) -> Probabilities:
        """Return uncalibrated probabilities of shape (N,) for the rows ``ends``."""
        return sigmoid(self.margin(inputs, ends))

    def trees(self) -> Trees:
        """Return its trees as arrays."""
        return lightgbm_trees(self.text or self.booster.model_to_string())

    def save(self, folder: Path) -> None:
        """Write ``folder``/lgbm.txt."""
        write_atomically(folder / self.file_name, self.booster.model_to_string().encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote; damage other than a cut is for the registry's digests to find."""
        path = folder / cls.file_name
        try:
            text = path.read_text(encoding="utf-8")
            if END_OF_MODEL not in text:  # LightGBM ends the process on half a model instead of raising
                raise ValueError("it is cut off, or no LightGBM model")
            return cls(lgb.Booster(model_str=text), text=text)
        except (OSError, ValueError, lgb.basic.LightGBMError) as error:
            raise ModelRefused(
                f"{path} cannot be read: {error}",
                fix="promote another with `kstock-batch models promote VERSION`, or retrain",
            ) from error

    def card(self) -> dict[str, Any]:
        """Return rounds, parameters and each column's share of the gain."""
        gain = self.booster.feature_importance("gain")
        shares = gain / max(float(gain.sum()), 1e-12)
        return {
            "rounds": self.rounds,
            **self.facts,
            "gain_share": {
                name: round(float(share), 4) for name, share in zip(self.booster.feature_name(), shares, strict=True)
            },
        }


def own_parameters(n_rows: int) -> dict[str, Any]:
    """Return the parameters by which it learns from ``n_rows`` unless told others."""
    leaf = max(5, min(MIN_ROWS_IN_LEAF, n_rows // ROWS_PER_LEAF))
    return PARAMETERS | {"min_data_in_leaf": leaf, "min_data_per_group": leaf}


def _dataset(
    examples: Examples, recipe: BoostingRecipe, parameters: Mapping[str, Any], reference: lgb.Dataset | None = None
) -> lgb.Dataset:
    inputs = examples.inputs
    return lgb.Dataset(
        learnt_rows(inputs, examples.ends, learns_level=recipe.learns_level),
        label=examples.label,
        init_score=_start(examples, recipe),
        feature_name=list(inputs.tabular_names),
        categorical_feature=list(inputs.categorical),
        params=dict(parameters),
        reference=reference,
    )


def _start(examples: Examples, recipe: BoostingRecipe) -> NDArray[np.float64] | None:
    """Return the log-odds at which each row starts, None where the outcomes are learnt as they are."""
    return None if recipe.learns_level or examples.offset is None else examples.offset.astype(np.float64)


def _watch(progress: Progress) -> Callable[[lgb.callback.CallbackEnv], None]:
    def after_round(env: lgb.callback.CallbackEnv) -> None:
        loss = float(env.evaluation_result_list[0][2]) if env.evaluation_result_list else None
        if progress.seen(env.iteration + 1, loss):
            raise lgb.callback.EarlyStopException(progress.best_round - 1, [])

    return after_round
