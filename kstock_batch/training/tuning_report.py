"""What a search for parameters came to, to print and to store: its trials, what mattered, and what is proven."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kstock_batch.judging.bootstrap import Difference, difference
from kstock_batch.training.study import best_trial, default_trial, finished, history, importances

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Found:
    """What a search of one member came to.

    Attributes
    ----------
    default, best : complete trials; None before the first is complete
    difference : by how much the best is worse than the default, per row; None if the default is the best
    """

    study: "Study"
    default: "FrozenTrial | None"
    best: "FrozenTrial | None"
    difference: Difference | None

    @classmethod
    def of(cls, study: "Study") -> "Found":
        """Return the best of a study's trials and whether the folds' days prove it better than the default."""
        default, best = default_trial(study), best_trial(study)
        if default is None or best is None or best.number == default.number:
            return cls(study, default, best, None)
        one, two = (np.array(trial.user_attrs["session_losses"]) for trial in (best, default))
        return cls(study, default, best, difference(one - two, np.array(study.user_attrs["session_counts"])))

    @property
    def member(self) -> str:
        """The member whose parameters they are."""
        return str(self.study.user_attrs["member"])

    @property
    def is_better(self) -> bool:
        """Whether the best is proven better than the member's own parameters."""
        return self.difference is not None and self.difference.high < 0

    def facts(self) -> dict[str, Any]:
        """Return the figures of the search: JSON values."""
        return {
            "study": self.study.study_name,
            "as_of": self.study.user_attrs["as_of"],
            "n_trials": len(finished(self.study)),
            "objective": None if self.best is None else self.best.value,
            "default_objective": None if self.default is None else self.default.value,
            "difference": None if self.difference is None else self.difference.row(),
        }

    def report(self) -> dict[str, Any]:
        """Return the figures with every trial and what mattered: JSON values."""
        return {
            "member": self.member,
            **self.facts(),
            "is_better": self.is_better,
            "best_parameters": {} if self.best is None else dict(self.best.params),
            "importance": importances(self.study),
            "history": history(self.study),
        }

    @property
    def sentence(self) -> str:
        """What to make of it."""
        n_trials = len(finished(self.study))
        if self.best is None or self.default is None:
            return f"{self.member}: {n_trials} trials, the member's own parameters are not judged yet"
        own = f"{self.default.value:.6f}"
        if self.difference is None:
            return f"{self.member}: the defaults stay: none of {n_trials} trials has a lower loss than their {own}"
        of_rows = f"{self.difference.mean:+.6f} ({self.difference.low:+.6f} … {self.difference.high:+.6f}) a row"
        told = f"{self.best.value:.6f} against {own}, {of_rows}"
        if not self.is_better:
            return f"{self.member}: the defaults stay: the best of {n_trials} trials is not proven better: {told}"
        return f"{self.member}: trial {self.best.number} of {n_trials} is better than the defaults: {told}"
