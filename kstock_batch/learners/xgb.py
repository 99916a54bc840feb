"""The XGBoost member: boosted trees over the values of the last bar, grown level by level."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xgboost as xgb

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import FloatRows, RowNumbers
from kstock_batch.files import write_atomically
from kstock_batch.learners.base import Examples, Inputs, Probabilities
from kstock_batch.learners.inputs import require_columns
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
    """Boosted trees, stored as UBJSON."""

    name: ClassVar[str] = "xgb"
    file_name: ClassVar[str] = "xgb.ubj"

    booster: xgb.Booster

    @classmethod
    def fit(cls, examples: Examples, *, rounds: int, seed: int, threads: int) -> Self:
        """Return the member trained for ``rounds``; the same arguments give the same bytes."""
        inputs, ends = examples.inputs, examples.ends
        names, types = list(inputs.tabular_names), _types(inputs)
        rows: FloatRows = inputs.tabular[ends]
        data = xgb.QuantileDMatrix(
            rows, label=examples.label, feature_names=names, feature_types=types, nthread=threads
        )
        hessian = max(1.0, min(MIN_HESSIAN_IN_LEAF, len(ends) / ROWS_PER_HESSIAN))
        own = {"seed": seed, "nthread": threads, "min_child_weight": hessian}
        return cls(xgb.train(PARAMETERS | own, data, num_boost_round=rounds))

    def predict(self, inputs: Inputs, ends: RowNumbers) -> Probabilities:
        """Return uncalibrated probabilities of shape (N,) for the rows ``ends``."""
        names = list(inputs.tabular_names)
        require_columns(inputs, self.booster.feature_names or [], self.file_name)
        if not len(ends):
            return np.empty(0)
        data = xgb.DMatrix(inputs.tabular[ends], feature_names=names, feature_types=_types(inputs))
        return np.asarray(self.booster.predict(data), dtype=np.float64)

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
            "rounds": self.booster.num_boosted_rounds(),
            "parameters": PARAMETERS,
            "gain_share": {name: round(gain.get(name, 0.0) / total, 4) for name in self.booster.feature_names or []},
        }


def _types(inputs: Inputs) -> list[str]:
    """Return XGBoost's letter for each column: c = category, q = quantity."""
    return ["c" if name in inputs.categorical else "q" for name in inputs.tabular_names]
