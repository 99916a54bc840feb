"""A member's trials, kept in a journal that a killed search goes on from. optuna is imported only here.

Each trial's draw is seeded by the number of trials finished before it: a search that was killed and goes on tries what
it would have tried without the interruption. A line of the journal is written whole or, by a kill, in half; the half
is cut off.
"""

import fcntl
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from kstock_batch.errors import ConfigError
from kstock_batch.training.search_space import SPACES

JOURNAL = "tuning.journal"
MIN_FOR_PRUNING = 5  # complete trials: the median of fewer is one trial's luck
MIN_FOR_IMPORTANCE = 10  # complete trials
BEST_SHARE = 0.25  # of the complete trials: importance is what tells these from the others
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@contextmanager
def held(models: Path) -> Iterator[Path]:
    """Yield the journal, for this process alone; a half line that a kill left behind is cut off."""
    models.mkdir(parents=True, exist_ok=True)
    path = models / JOURNAL
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another process is tuning: it holds {path}", fix="wait for it, or stop it; its trials are kept"
            ) from error
        path.with_name(f"{JOURNAL}.lock").unlink(missing_ok=True)  # optuna's: a kill leaves it, and it waits for it
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        if whole < os.fstat(file.fileno()).st_size:
            file.truncate(whole)
        yield path


def opened_study(journal: Path, name: str, facts: Mapping[str, Any]) -> Study:
    """Return the study of that name, its trials kept; a trial that was under way when its process died is failed."""
    with _quiet():
        study = optuna.create_study(
            study_name=name, storage=_storage(journal), load_if_exists=True, pruner=MedianPruner(MIN_FOR_PRUNING)
        )
        for key, value in facts.items():
            if study.user_attrs.get(key) != value:
                study.set_user_attr(key, value)
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            give_up(study, trial.number)
    return study


def newest_study(journal: Path, member: str, as_of: str | None = None) -> Study | None:
    """Return the member's study that was begun last (of that night), without changing anything; None if none was."""
    if not journal.exists():
        return None
    with _quiet():
        storage = _storage(journal)
        found = [
            study.study_name
            for study in storage.get_all_studies()
            if study.user_attrs.get("member") == member and as_of in (None, study.user_attrs.get("as_of"))
        ]
        return optuna.load_study(study_name=found[-1], storage=storage) if found else None


def next_trial(study: Study, seed: int, fixed: Mapping[str, Any] | None = None, origin: str = "search") -> Trial:
    """Return a trial with parameters to try: ``fixed`` ones, or those the sampler draws."""
    member = study.user_attrs["member"]
    mixed = np.random.SeedSequence([seed, len(finished(study))]).generate_state(1)
    with _quiet():
        sampler: BaseSampler = TPESampler(seed=int(mixed[0]), constant_liar=False)
        # Not enqueued: a kill between the queue and the trial would leave it waiting there for the next search.
        study.sampler = sampler if fixed is None else PartialFixedSampler(dict(fixed), sampler)
        trial = study.ask()
        for name, space in SPACES[member].items():
            if space.step:
                trial.suggest_int(name, int(space.low), int(space.high), step=space.step, log=space.is_log)
            else:
                trial.suggest_float(name, space.low, space.high, log=space.is_log)
        trial.set_user_attr("origin", origin)
    return trial


def give_up(study: Study, number: int) -> None:
    """Fail a trial that is not finished: it counts for nothing, and its parameters are drawn again."""
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def prune(study: Study, number: int) -> None:
    """End a trial that is worse than the median."""
    study.tell(number, state=TrialState.PRUNED)


def finished(study: Study) -> list[FrozenTrial]:
    """Return the trials that were completed or pruned, in their order."""
    return study.get_trials(deepcopy=False, states=FINISHED)


def complete(study: Study) -> list[FrozenTrial]:
    """Return the trials that were judged by every fold, in their order."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def default_trial(study: Study) -> FrozenTrial | None:
    """Return the trial of the member's own parameters, None if it is not complete yet."""
    return next((trial for trial in complete(study) if trial.user_attrs.get("origin") == "default"), None)


def best_trial(study: Study) -> FrozenTrial | None:
    """Return the complete trial with the lowest loss, the first of equals."""
    return min(complete(study), key=lambda trial: (trial.value, trial.number), default=None)


def history(study: Study) -> list[dict[str, Any]]:
    """Return one row for each finished trial: its loss, the best so far, seconds and parameters."""
    rows, best = [], None
    for trial in finished(study):
        if trial.state == TrialState.COMPLETE and (best is None or _loss(trial) < best):
            best = _loss(trial)
        rows.append(
            {
                "trial": trial.number,
                "origin": trial.user_attrs.get("origin", "search"),
                "state": trial.state.name.lower(),
                "loss": _loss(trial),
                "folds": len(trial.intermediate_values),
                "best": best,
                "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
                "parameters": dict(trial.params),
            }
        )
    return rows


def importances(study: Study) -> dict[str, float]:
    """Return each parameter's share in what tells the best trials from the others; empty if there are few trials."""
    if len(complete(study)) < MIN_FOR_IMPORTANCE:
        return {}
    with _quiet():
        found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE))
    return {name: round(float(share), 4) for name, share in found.items()}


def _loss(trial: FrozenTrial) -> float:
    """Return the mean loss of the folds that judged it."""
    return float(trial.value if trial.value is not None else trial.intermediate_values[trial.last_step or 0])


def _storage(journal: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(journal), JournalFileOpenLock(str(journal))))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep optuna's own lines and warnings of experiments to itself, and leave its logging as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)
