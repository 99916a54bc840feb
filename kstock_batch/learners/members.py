"""Which members there are, and which this environment can train or score: an absent library is no error."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:  # the names alone must cost a command line nothing
    from kstock_batch.learners.base import Member


class Home(NamedTuple):
    """Where a member's class is, and the libraries it needs to be trained and to score."""

    module: str
    class_name: str
    trains_with: str
    scores_with: str | None


HOMES: Mapping[str, Home] = {
    "lgbm": Home("kstock_batch.learners.lgbm", "LgbmMember", "lightgbm", "lightgbm"),
    "xgb": Home("kstock_batch.learners.xgb", "XgbMember", "xgboost", "xgboost"),
    "lstm": Home("kstock_batch.learners.lstm", "LstmMember", "torch", None),  # scores in numpy
}
MEMBER_NAMES: tuple[str, ...] = tuple(HOMES)
# What the boosting libraries load where it is installed; for these two of its own modules XGBoost loads scipy.special.
UNUSED = ("sklearn", "pandas", "xgboost.plotting", "xgboost.sklearn")


def member_class(name: str) -> type[Member]:
    """Return the class of a member, importing its library."""
    home = HOMES[name]
    with _kept_out(UNUSED):
        return cast("type[Member]", getattr(import_module(home.module), home.class_name))


def own_parameters(name: str, n_rows: int) -> dict[str, Any]:
    """Return the parameters by which a member learns from ``n_rows`` unless told others; an LSTM's need no torch."""
    if name == "lstm":
        from kstock_batch.learners.lstm_recipe import Recipe

        return asdict(Recipe())
    found: dict[str, Any] = import_module(HOMES[name].module).own_parameters(n_rows)
    return found


def trainable() -> tuple[str, ...]:
    """Return the members this environment can train."""
    return tuple(name for name, home in HOMES.items() if is_installed(home.trains_with))


def scorable(names: Sequence[str]) -> tuple[str, ...]:
    """Return those of ``names`` that this environment can score with."""
    return tuple(name for name in names if (needs := HOMES[name].scores_with) is None or is_installed(needs))


def absence(wanted: Sequence[str], names: Sequence[str], what: str) -> str | None:
    """Return a sentence about the members in ``wanted`` and not in ``names``, None if there is none."""
    if not (missing := [name for name in wanted if name not in names]):
        return None
    libraries = sorted({HOMES[name].trains_with for name in missing})
    verb = "is" if len(libraries) == 1 else "are"
    return (
        f"{', '.join(missing)} cannot be {what}, because {', '.join(libraries)} {verb} not installed here: the blend"
        f" goes on with {', '.join(names)}, weights scaled up"
    )


def is_installed(library: str) -> bool:
    """Return whether a library could be imported, without importing it."""
    return find_spec(library) is not None


@contextmanager
def _kept_out(libraries: Sequence[str]) -> Iterator[None]:
    """Have libraries seem absent for a moment: to import these takes longer than to score a night."""
    absent = [library for library in libraries if library not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: the import system says "not there"
    try:
        yield
    finally:
        for library in absent:
            del sys.modules[library]
