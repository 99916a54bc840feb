"""Members trained on examples: until a later block says stop, or for as long as an earlier fit was found to need."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kstock_batch.errors import NoMemberScored
from kstock_batch.learners.base import Examples, Member
from kstock_batch.learners.members import MEMBER_NAMES, member_class, trainable
from kstock_batch.settings import Settings
from kstock_batch.training.budget import Budget

Advance = Callable[[str], None]

LEVEL_FROM = ("xgb", "lgbm")  # the first that is there also learns how likely rises are in a session
# The loss inside sessions says when a member has learnt where stocks stand; it does not see that one which also learns
# the level goes on to memorise the sessions. On the panel the level was best near 250 rounds, worse by points at 500.
LEVEL_ROUNDS = 250
STOP_SHARE = 0.15  # of the sessions of the first fold: the block that says when to stop
COSTS: Mapping[str, float] = {"lgbm": 1.0, "xgb": 1.0, "lstm": 4.0}  # relative time of one fit, measured on the panel


@dataclass(frozen=True)
class Duration:
    """How long a member is trained where nothing is held out: what a fit with a stopping block found."""

    steps: int
    learning_rates: tuple[float, ...] = ()


@dataclass
class Fitter:
    """Trains the members this environment can train.

    Attributes
    ----------
    names : the members, in the ensemble's order
    parameters : name -> parameters that replace the member's own: the library's, or values of the LSTM's recipe
    budget : of the whole retrain
    advance : told what begins
    scratch : folder in the warehouse for the LSTM's arrays; whoever begins there clears it of what others left
    """

    settings: Settings
    budget: Budget
    names: tuple[str, ...]
    parameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    advance: Advance = lambda _: None
    scratch: str = "scratch"

    def fit(
        self, examples: Examples, stop: "StopExamples | None" = None, like: Mapping[str, Duration] | None = None
    ) -> dict[str, Member]:
        """Return the members trained on ``examples``: until ``stop`` says so, else for as long as ``like`` says."""
        members: dict[str, Member] = {}
        for name in self.names:
            members[name] = self.fit_one(name, examples, stop, like)
        return members

    def fit_one(
        self,
        name: str,
        examples: Examples,
        stop: "StopExamples | None" = None,
        like: Mapping[str, Duration] | None = None,
    ) -> Member:
        """Return one of the members, trained as beside the others."""
        self.advance(name)
        seconds = self.budget.take(COSTS[name])
        duration = None if like is None else like[name]
        if name == "lstm":
            member = self._lstm(examples, duration, seconds)
        else:
            member = self._tree(name, examples, stop, duration, seconds)
        self.budget.note(name, member.card().get("stopped_by"))
        return member

    def _tree(
        self,
        name: str,
        examples: Examples,
        stop: "StopExamples | None",
        duration: Duration | None,
        seconds: float | None,
    ) -> Member:
        from kstock_batch.learners.boosting import BoostingRecipe

        learns_level = name == level_member(self.names)
        most = min(self.settings.tree_rounds, LEVEL_ROUNDS) if learns_level else self.settings.tree_rounds
        recipe = BoostingRecipe(
            rounds=most if duration is None else duration.steps,
            seed=self.settings.seed,
            threads=self.settings.threads,
            parameters=self.parameters.get(name, {}),
            learns_level=learns_level,
            budget_s=seconds,
        )
        kind: Any = member_class(name)
        member: Member = kind.fit(examples, recipe) if stop is None else kind.fit(stop.train, recipe, stop.validation)
        return member

    def _lstm(self, examples: Examples, duration: Duration | None, seconds: float | None) -> Member:
        from kstock_batch.learners.lstm_process import fit_apart

        given: dict[str, Any] = {"epochs": self.settings.lstm_epochs}
        if duration is not None:
            given = {"epochs": duration.steps, "stop_early": False, "learning_rates": duration.learning_rates}
        return fit_apart(
            examples,
            scratch=self.settings.warehouse / self.scratch,
            seed=self.settings.seed,
            threads=self.settings.threads,
            budget_s=seconds,
            device=self.settings.device,
            on_epoch=lambda epoch, *_: self.advance(f"lstm, epoch {epoch} done"),
            recipe=self.parameters.get("lstm"),
            **given,
        )


@dataclass(frozen=True)
class StopExamples:
    """Examples to learn from, and the later, purged ones that say when to stop."""

    train: Examples
    validation: Examples


def durations(members: Mapping[str, Member]) -> dict[str, Duration]:
    """Return how long each member was trained: rounds of trees, epochs and their learning rates of the LSTM."""
    found = {}
    for name, member in members.items():
        if name == "lstm":
            lstm: Any = member
            found[name] = Duration(lstm.best_epoch, lstm.learning_rates)
        else:
            tree: Any = member
            found[name] = Duration(max(1, tree.rounds))
    return found


def level_member(names: tuple[str, ...]) -> str | None:
    """Return which of the members gives the level of a session; None = none can, the volatility model must."""
    return next((name for name in LEVEL_FROM if name in names), None)


def members_here() -> tuple[str, ...]:
    """Return the members this environment can train, or raise if there is none."""
    names = trainable()
    if not names:
        raise NoMemberScored(
            f"none of {list(MEMBER_NAMES)} can be trained: lightgbm, xgboost and torch are all absent",
            fix="install one of them, e.g. `pip install lightgbm`",
        )
    return names
