"""What both boosted-tree members share: how many rounds, when to stop, and what they may be told by settings."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

STOP_PATIENCE = 50  # rounds without a better loss on the validation block

StoppedBy = Literal["rounds", "patience", "budget"]


@dataclass(frozen=True)
class BoostingRecipe:
    """How a tree member is trained.

    Attributes
    ----------
    rounds : at most so many with a validation block, exactly so many without
    seed, threads : of the library
    parameters : the library's own parameters that replace the member's
    learns_level : learn from the outcomes as they are, so that the session's mean says how likely rises are that night;
        else start each row at its session's own rate and learn where stocks stand
    budget_s : seconds after which boosting stops with the rounds it has
    """

    rounds: int
    seed: int
    threads: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    learns_level: bool = False
    budget_s: float | None = None


class Progress:
    """Watches a boosting from round to round: the best round so far, and whether to stop."""

    def __init__(self, recipe: BoostingRecipe) -> None:
        self._began = time.monotonic()
        self._budget_s, self._rounds = recipe.budget_s, recipe.rounds
        self.best_round, self.best_loss = 0, float("inf")
        self.stopped_by: StoppedBy = "rounds"

    def seen(self, n_rounds: int, loss: float | None) -> bool:
        """Take note of the loss after ``n_rounds`` (None: nothing is held out) and return whether to stop."""
        if loss is None:
            self.best_round = n_rounds
        elif loss < self.best_loss:
            self.best_round, self.best_loss = n_rounds, loss
        elif n_rounds - self.best_round >= STOP_PATIENCE:
            self.stopped_by = "patience"
            return True
        is_late = self._budget_s is not None and time.monotonic() - self._began > self._budget_s
        if is_late and n_rounds < self._rounds:
            self.stopped_by = "budget"
            return True
        return False

    def facts(self) -> dict[str, Any]:
        """Return JSON values for the member's card."""
        found = {} if self.best_loss == float("inf") else {"validation_loss": round(self.best_loss, 6)}
        return {"stopped_by": self.stopped_by, **found}
