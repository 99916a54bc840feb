"""The LightGBM member: boosted trees over the values of the last bar."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import lightgbm as lgb
import numpy as np

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import RowNumbers
from kstock_batch.files import write_atomically
from kstock_batch.learners.base import Examples, Inputs, Probabilities
from kstock_batch.learners.inputs import require_columns
from kstock_batch.learners.tree_paths import Trees, lightgbm_trees

# About 1 M rows that overlap and are mostly noise: slow steps, large leaves. A fixed number of rounds, because early
# stopping on two recent months was measured to pick rounds by noise.
PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 31,
    "feature_fraction": 0.7,
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
    """Boosted trees, stored as LightGBM's text."""

    name: ClassVar[str] = "lgbm"
    file_name: ClassVar[str] = "lgbm.txt"

    booster: lgb.Booster

    @classmethod
    def fit(cls, examples: Examples, *, rounds: int, seed: int, threads: int) -> Self:
        """Return the member trained for ``rounds``; the same arguments give the same bytes."""
        inputs, ends = examples.inputs, examples.ends
        data = lgb.Dataset(
            inputs.tabular[ends],
            label=examples.label,
            feature_name=list(inputs.tabular_names),
            categorical_feature=list(inputs.categorical),
        )
        leaf = max(5, min(MIN_ROWS_IN_LEAF, len(ends) // ROWS_PER_LEAF))
        own = {"seed": seed, "num_threads": threads, "min_data_in_leaf": leaf, "min_data_per_group": leaf}
        return cls(lgb.train(PARAMETERS | own, data, num_boost_round=rounds))

    def predict(self, inputs: Inputs, ends: RowNumbers) -> Probabilities:
        """Return uncalibrated probabilities of shape (N,) for the rows ``ends``."""
        require_columns(inputs, self.booster.feature_name(), self.file_name)
        if not len(ends):
            return np.empty(0)
        return np.asarray(self.booster.predict(inputs.tabular[ends]), dtype=np.float64)

    def trees(self) -> Trees:
        """Return its trees as arrays."""
        return lightgbm_trees(self.booster)

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
            return cls(lgb.Booster(model_str=text))
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
            "rounds": self.booster.num_trees(),
            "parameters": PARAMETERS,
            "gain_share": {
                name: round(float(share), 4) for name, share in zip(self.booster.feature_name(), shares, strict=True)
            },
        }
