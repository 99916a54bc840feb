"""The search for better parameters of one member: tried on the folds of a retrain, kept only if proven better.

1. A trial trains the member before each fold, as a retrain would, and is worth the mean over the folds of the loss
   inside sessions, which a market's luck does not touch. A trial that is worse than the median is given up.
2. The first trial is the member's own parameters, the second what an earlier search found: the best is never worse.
3. The best replaces the member's own only if it is better by a paired day-block bootstrap on the folds' rows.

The folds chose the parameters: what a retrain states of the same folds is therefore a little too kind, the more so the
more trials there were.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kstock_batch.errors import ConfigError
from kstock_batch.learners.calibration import losses_in_sessions
from kstock_batch.learners.members import MEMBER_NAMES, is_installed
from kstock_batch.settings import Settings
from kstock_batch.training.budget import Budget
from kstock_batch.training.fitting import Fitter, durations, members_here
from kstock_batch.training.material import Block, Material, n_learnt, study_facts, study_name
from kstock_batch.training.search_space import own_values
from kstock_batch.training.tuned import tuned_parameters, write_tuned

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

    from kstock_batch.training.tuning_report import Found

Advance = Callable[..., None]

SCRATCH = "tuning"  # of its own: a retrain may run beside a search


def require_optuna() -> None:
    """Refuse to go on without the library that searches."""
    if not is_installed("optuna"):
        raise ConfigError("tuning needs optuna, which is not installed", fix="pip install 'kstock-batch[tune]'")


@dataclass(frozen=True)
class Search:
    """Runs the trials of one member.

    Attributes
    ----------
    clock : seconds; a trial that is not finished by ``deadline`` is given up and tried again by the next search
    advance : told of every fold
    """

    member: str
    material: Material
    settings: Settings
    study: "Study"
    deadline: float | None = None
    advance: Advance = lambda *_, **__: None
    clock: Callable[[], float] = time.monotonic

    def run(self, n_trials: int) -> None:
        """Go on until the study has ``n_trials`` finished trials, or the time is over."""
        from kstock_batch.training import study as studies

        while len(studies.finished(self.study)) < n_trials and not self._is_late():
            trial = self._next()
            try:
                if not self._try(trial):
                    return
            except BaseException:  # Ctrl-C too: what was begun is not finished
                studies.give_up(self.study, trial.number)
                raise

    def _next(self) -> "Trial":
        from kstock_batch.training.study import default_trial, finished, next_trial

        seed = self.settings.seed
        if default_trial(self.study) is None:
            own = own_values(self.member, n_learnt(self.member, self.material))
            return next_trial(self.study, seed, own, "default")
        before = tuned_parameters(self.settings.models, self.material.as_of).get(self.member)
        if before and all(trial.params != before for trial in finished(self.study)):
            return next_trial(self.study, seed, before, "tuned before")
        return next_trial(self.study, seed)

    def _try(self, trial: "Trial") -> bool:
        """Judge the trial fold after fold; return False if the time was over before it was finished."""
        from kstock_batch.training import study as studies

        is_default = trial.user_attrs["origin"] == "default"
        fitter = Fitter(
            self.settings,
            Budget(None, cost=1.0),  # cut short, parameters that learn slowly would look bad
            members_here(),
            {} if is_default else {self.member: trial.params},
            lambda label: self.advance(label, steps=0),
            SCRATCH,
        )
        found, losses, totals = None, [], []
        for number, block in enumerate(self.material.blocks):
            member = fitter.fit_one(self.member, block.train, self.material.stop if found is None else None, found)
            found = durations({self.member: member}) if found is None else found
            loss, total = self._judge(member, block)
            losses.append(loss)
            totals += total
            trial.report(float(np.mean(losses)), number)
            is_last = number == len(self.material.blocks) - 1
            self.advance(f"{self.member}, trial {trial.number}")
            if not is_last and not is_default and trial.should_prune():
                self.advance(steps=len(self.material.blocks) - 1 - number)
                studies.prune(self.study, trial.number)
                return True
            if not is_last and self._is_late():
                studies.give_up(self.study, trial.number)
                return False
        trial.set_user_attr("session_losses", [round(total, 6) for total in totals])
        trial.set_user_attr("steps", found[self.member].steps if found else 0)
        self.study.tell(trial, float(np.mean(losses)))
        return True

    def _judge(self, member: Any, block: Block) -> tuple[float, list[float]]:
        """Return the mean loss inside sessions of the fold, and its sum in each session."""
        rows = self.material.rows
        session = rows.position[block.windows]
        margin = member.margin(rows.inputs, rows.ends[block.windows])
        losses = losses_in_sessions(margin, rows.label[block.windows], session)
        _, number = np.unique(session, return_inverse=True)
        return float(losses.mean()), np.bincount(number, losses).tolist()

    def _is_late(self) -> bool:
        return self.deadline is not None and self.clock() >= self.deadline


def tune(
    material: Material,
    settings: Settings,
    members: Sequence[str],
    n_trials: int,
    *,
    minutes: float | None = None,
    advance: Advance = lambda *_, **__: None,
) -> "list[Found]":
    """Search for each member's parameters in turn and write those that are proven better; return what was found.

    ``minutes`` are shared: what a member does not need passes on to those after it.
    """
    from kstock_batch.training.study import finished, held, opened_study
    from kstock_batch.training.tuning_report import Found

    budget = Budget(None if minutes is None else minutes * 60, cost=float(len(members)))
    everything = []
    with held(settings.models) as journal:
        for member in members:
            seconds = budget.take(1.0)
            name, facts = study_name(member, material, settings), study_facts(member, material)
            study = opened_study(journal, name, facts)
            advance(steps=min(n_trials, len(finished(study))) * len(material.blocks))
            deadline = None if seconds is None else time.monotonic() + seconds
            Search(member, material, settings, study, deadline, advance).run(n_trials)
            everything.append(found := Found.of(study))
            if found.is_better and found.best is not None:
                write_tuned(settings.models, {member: {"parameters": dict(found.best.params), **found.facts()}})
    return everything


def tried_before(settings: Settings, members: Sequence[str], as_of: str | None = None) -> "list[Found]":
    """Return what the newest search of each member (on that night) found so far; nothing is changed."""
    from kstock_batch.training.study import JOURNAL, newest_study
    from kstock_batch.training.tuning_report import Found

    studies = [newest_study(settings.models / JOURNAL, member, as_of) for member in members]
    if not (found := [Found.of(study) for study in studies if study is not None]):
        raise ConfigError(
            f"nothing was tuned yet{f' as-of {as_of}' if as_of else ''}: {settings.models / JOURNAL} holds no search"
            f" of {', '.join(members)}",
            fix="run `kstock-batch tune --trials 20`",
        )
    return found


def members_asked(member: str | None) -> tuple[str, ...]:
    """Return the members to tune: the one asked for, by default all that can be trained here."""
    here = members_here()
    if member is None:
        return here
    if member not in here:
        raise ConfigError(
            f"{member} cannot be trained here: its library is not installed",
            fix=f"tune one of {[name for name in MEMBER_NAMES if name in here]}",
        )
    return (member,)
