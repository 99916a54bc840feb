"""Where a search may look: for each member the parameters that matter, and between which values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kstock_batch.errors import ConfigError
from kstock_batch.learners.members import MEMBER_NAMES, own_parameters


@dataclass(frozen=True)
class Range:
    """Values from ``low`` to ``high``, both included.

    Attributes
    ----------
    is_log : a factor matters, not a difference
    step : 0 = any number between; else whole numbers so far apart
    """

    low: float
    high: float
    is_log: bool = False
    step: int = 0

    def refusal(self, value: object) -> str | None:
        """Return why ``value`` cannot be used, None if it can."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{value!r} is no number"
        if self.step and not isinstance(value, int):
            return f"{value!r} is no whole number"
        return None if self.low <= value <= self.high else f"{value!r} is not within {self.low:g} … {self.high:g}"


# Around the members' own values, as far as a fit still takes minutes and a leaf is more than an anecdote.
SPACES: Mapping[str, Mapping[str, Range]] = {
    "lgbm": {
        "num_leaves": Range(7, 127, is_log=True, step=1),
        "learning_rate": Range(0.01, 0.1, is_log=True),
        "feature_fraction": Range(0.1, 1.0),
        "bagging_fraction": Range(0.3, 1.0),
        "lambda_l2": Range(0.1, 100.0, is_log=True),
        "min_data_in_leaf": Range(5, 5000, is_log=True, step=1),
        "cat_smooth": Range(1.0, 500.0, is_log=True),
    },
    "xgb": {
        "max_depth": Range(2, 8, step=1),
        "eta": Range(0.01, 0.1, is_log=True),
        "subsample": Range(0.3, 1.0),
        "colsample_bytree": Range(0.1, 1.0),
        "lambda": Range(0.1, 100.0, is_log=True),
        "min_child_weight": Range(1.0, 1000.0, is_log=True),
    },
    "lstm": {
        "learning_rate": Range(1e-4, 1e-2, is_log=True),
        "weight_decay": Range(1e-6, 1e-1, is_log=True),
        "batch_size": Range(128, 2048, step=128),
    },
}


def require_known(member: str, parameters: Mapping[str, Any], where: str) -> None:
    """Refuse a member or a parameter that no search tunes, or a value that none would try."""
    if member not in SPACES:
        raise ConfigError(f"{where} names the unknown member {member!r}", fix=f"use one of {list(MEMBER_NAMES)}")
    space = SPACES[member]
    if unknown := sorted(parameters.keys() - space.keys()):
        raise ConfigError(f"{where}: {member} has no parameters {unknown}", fix=f"use some of {sorted(space)}")
    for name, value in parameters.items():
        if (why := space[name].refusal(value)) is not None:
            raise ConfigError(f"{where}: {member}'s {name} = {why}", fix="mend it, delete the file, or tune again")


def own_values(member: str, n_rows: int) -> dict[str, Any]:
    """Return what a member that learns from ``n_rows`` would use of its own where a search looks."""
    own = own_parameters(member, n_rows)
    return {name: own[name] for name in SPACES[member]}
