"""What the bot's own tree models say of one row: each by itself, whichever of them are there.

Standard library and Python 3.9 syntax only; numpy is imported when a model is there to be asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from kstock_batch.errors import ModelRefused

_SPELLINGS = {"lgb": "lgb", "lgbm": "lgb", "xgb": "xgb"}  # the bot's names and the job's -> the bot's
_COLUMN_NAMES = ("feature_names_in_", "feature_name_", "feature_names", "feature_name")  # as each library calls them


def tree_probabilities(ml_model: Any, features: Mapping[str, float]) -> dict[str, float]:
    """Return the probability by member, "lgb" and "xgb", of those that ``ml_model`` holds.

    Parameters
    ----------
    ml_model : None, or a mapping or object with ``lgb`` (or ``lgbm``) and ``xgb``. Each is None, or has
        ``predict_proba(rows)`` (n, 2), or ``inplace_predict(rows)`` or ``predict(rows)`` (n,) as boosters have
    features : one row. A member is given the columns that it says it learnt, else the 30 of the contract in their
        order; a value that is missing is NaN
    """
    members = {_SPELLINGS[name]: member for name, member in _held(ml_model).items() if member is not None}
    return {name: _ask(name, member, features) for name, member in members.items()}


def _held(ml_model: Any) -> Mapping[str, Any]:
    """Return the members by the names under which ``ml_model`` holds them."""
    if ml_model is None:
        return {}
    if isinstance(ml_model, Mapping):
        held = {name: ml_model[name] for name in _SPELLINGS if name in ml_model}
    else:
        held = {name: getattr(ml_model, name) for name in _SPELLINGS if hasattr(ml_model, name)}
    if not held:
        raise TypeError(f"ml_model is a {type(ml_model).__name__} that holds none of {sorted(_SPELLINGS)}")
    return held


def _ask(name: str, member: Any, features: Mapping[str, float]) -> float:
    """Return what one member says, or refuse what is no probability."""
    rows = _rows([features.get(column, nan) for column in _columns(member, features)])
    if hasattr(member, "predict_proba"):
        said = float(member.predict_proba(rows)[0][1])
    elif hasattr(member, "inplace_predict"):  # XGBoost's booster, whose predict asks for a DMatrix
        said = float(member.inplace_predict(rows)[0])
    else:
        said = float(member.predict(rows)[0])
    if not 0 <= said <= 1:
        raise ModelRefused(
            f"the bot's {name} says {said}, which is no probability", fix="retrain it, or set it to None"
        )
    return said


def _rows(values: list[float]) -> Any:
    """Return one row (1, D) as libraries take it; plain lists where numpy is not there, nor any library then."""
    try:
        import numpy as np
    except ImportError:
        return [values]
    return np.array([values], dtype=np.float64)


def _columns(member: Any, features: Mapping[str, float]) -> Sequence[str]:
    """Return the columns ``member`` learnt, by its own word if it knows any of ``features`` by name."""
    for attribute in _COLUMN_NAMES:
        names = getattr(member, attribute, None)
        names = names() if callable(names) else names
        if names is not None and any(name in features for name in names):
            return list(names)
    from kstock_batch.market.contract import FEATURE_NAMES

    return FEATURE_NAMES
