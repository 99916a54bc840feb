"""The weekly retrain: learn from what is known, prove it on what followed, replace the champion by nothing worse.

1. The last ``validation_share`` of the sessions is cut into ``n_folds`` blocks; models trained on what precedes each
   say what they think of it. The first fold holds back its own last sessions to find how long to train.
2. Out of fold the weights of the blend are decided and the calibrators fitted; every figure stated is of probabilities
   calibrated on the other folds.
3. Members are trained again on everything, for as long as the first fold found.
4. The gate compares challenger, floors and champion on the same rows. What does not pass is stored and does not serve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from kstock_batch.errors import ChallengerRefused
from kstock_batch.features.completeness import require_complete
from kstock_batch.judging.drift_verdict import newest_verdict
from kstock_batch.learners.base import Member, Probabilities
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.linear import LogisticModel, fit_floors
from kstock_batch.learners.members import MEMBER_NAMES, absence
from kstock_batch.market.contract import HORIZON
from kstock_batch.registry import ModelVersion, Registry
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run, Stages
from kstock_batch.store.warehouse import Warehouse
from kstock_batch.training.budget import Budget
from kstock_batch.training.champion import champion_probabilities
from kstock_batch.training.dataset import LabelledRows, labelled_rows
from kstock_batch.training.fitting import COSTS, Fitter, members_here
from kstock_batch.training.gate import Verdict, judge_challenger
from kstock_batch.training.manifest import manifest_of
from kstock_batch.training.out_of_fold import OutOfFold, judged_table, out_of_fold, strides
from kstock_batch.training.splits import Fold, last_folds
from kstock_batch.training.tuned import tuned_parameters
from kstock_batch.training.weights import ChosenWeights, choose_weights, start_weights

Advance = Callable[[str], None]


@dataclass(frozen=True)
class Fitted:
    """Members, and what those of the folds say of the sessions they had not seen.

    Attributes
    ----------
    rows, folds : what was learnt from, and how it was cut
    oof : what the folds' models say
    members, floors : trained on all rows
    overrun : parts that their share of the time budget ended
    tuned : member -> the parameters that a search found and that it was trained by
    """

    rows: LabelledRows
    folds: tuple[Fold, ...]
    oof: OutOfFold
    members: Mapping[str, Member]
    floors: Mapping[str, LogisticModel]
    overrun: tuple[str, ...]
    tuned: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Trained(Fitted):
    """Everything a version is made of.

    Attributes
    ----------
    columns : members, ``pair`` (the blend without the LSTM, where there is one) and ``blend``: calibrated (N,)
    calibration, weights : of the version itself
    champion : (N,) what the champion says of the same windows, NaN where it has no honest opinion; None without one
    verdict : of the gate
    """

    columns: Mapping[str, Probabilities]
    calibration: CalibratedBlend
    weights: ChosenWeights
    champion: Probabilities | None
    verdict: Verdict


@dataclass(frozen=True)
class Retrained:
    """A stored version; it serves unless ``refusal`` says why not.

    ``warnings`` name members that were not trained because their library is absent here, and the fits that the budget
    ended; ``occasion`` says that the champion had drifted, or is being watched, when this was trained.
    """

    version: ModelVersion
    verdict: Verdict
    warnings: tuple[str, ...]
    refusal: ChallengerRefused | None
    occasion: str | None = None


def retrain(
    warehouse: Warehouse, settings: Settings, run: Run, as_of: date, advance: Advance = lambda _: None
) -> Retrained:
    """Train on what was known on the night of ``as_of``, store the version, promote it if the gate lets it pass."""
    require_complete(warehouse.con, as_of, settings)
    registry = Registry(settings.models)
    registry.require_writable()
    with run.stage("read training rows") as stage:
        rows = labelled_rows(warehouse.con, as_of, n_sessions=settings.train_sessions)
        stage.n_rows = len(rows.ends)
    trained = train(rows, settings, registry, run, advance, as_of)
    drift = newest_verdict(warehouse.con, as_of)
    with run.stage("store version"):
        manifest = manifest_of(trained, settings, as_of, run, drift)
        version = registry.add(run.started_at, manifest, lambda folder: _write(folder, trained))
    refusal = refusal_of(version, trained.verdict)
    if refusal is None:
        registry.promote(version.version, at=run.started_at)
    occasion = f"retrained while {drift.sentence}" if drift and drift.state != "ok" else None
    return Retrained(version, trained.verdict, _warnings(trained, settings), refusal, occasion)


def _warnings(trained: Trained, settings: Settings) -> tuple[str, ...]:
    """Return what somebody should know of a retrain that went less well than it might have."""
    found = [absence(MEMBER_NAMES, tuple(trained.members), "trained")]
    if trained.overrun:
        found.append(
            f"{len(trained.overrun)} fits ({', '.join(trained.overrun)}) were stopped at the best so far, so that the"
            f" retrain ends within budget_minutes = {settings.budget_minutes:g}"
        )
    return tuple(sentence for sentence in found if sentence)


def folds_of(n_sessions: int, settings: Settings) -> tuple[Fold, ...]:
    """Return the folds of a retrain on ``n_sessions``."""
    return last_folds(
        n_sessions,
        n_folds=settings.n_folds,
        validation_share=settings.validation_share,
        horizon=HORIZON,
        embargo=settings.embargo_sessions,
    )


def fit(
    rows: LabelledRows,
    settings: Settings,
    run: Stages,
    advance: Advance,
    *,
    tuned: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    n_fitted: int | None = None,
) -> Fitted:
    """Return the members trained on all ``rows``, by ``tuned`` parameters, and what the folds' members say.

    Of the folds only the first ``n_fitted`` are trained (None = all): a backtest has said of the others' blocks before.
    """
    folds, names = folds_of(len(rows.sessions), settings), members_here()
    fitted = folds[:n_fitted]
    budget = Budget(settings.budget_minutes * 60 or None, cost=(len(fitted) + 1) * sum(COSTS[name] for name in names))
    fitter = Fitter(settings, budget, names, tuned, advance)
    with run.stage("train and judge folds") as stage:
        oof = out_of_fold(rows, fitted, settings, fitter)
        stage.n_rows = sum(len(rows.chosen(fold.train)) for fold in fitted)
    with run.stage("train on everything") as stage:
        examples = rows.examples(np.arange(len(rows.ends)), **strides(settings))
        members, floors = fitter.fit(examples, like=oof.durations), fit_floors(examples)
        stage.n_rows = len(rows.ends)
    used = {name: dict(tuned[name]) for name in names if name in tuned}
    return Fitted(rows, folds, oof, members, floors, tuple(budget.overrun), used)


def train(
    rows: LabelledRows, settings: Settings, registry: Registry, run: Run, advance: Advance, as_of: date
) -> Trained:
    """Return the members trained on all ``rows`` with what their folds prove of them."""
    fitted = fit(rows, settings, run, advance, tuned=tuned_parameters(settings.models, as_of))
    oof, folds = fitted.oof, fitted.folds
    with run.stage("calibrate and weigh"):
        atr_pct = rows.keys[oof.windows]["atr_pct"].cast(pl.Float64).to_numpy()
        weights = choose_weights(oof, folds, atr_pct)
        columns = judged_columns(oof, folds, weights)
    with run.stage("gate"):
        champion = champion_probabilities(registry, rows, oof.windows)
        verdict = judge_challenger(_contest(rows, oof, columns, champion))
    return Trained(
        **vars(fitted),
        columns=columns,
        calibration=oof.calibration(weights.values),
        weights=weights,
        champion=champion,
        verdict=verdict,
    )


def judged_columns(oof: OutOfFold, folds: tuple[Fold, ...], weights: ChosenWeights) -> dict[str, Probabilities]:
    """Return members, the blend without the LSTM where there is one, and the blend: calibrated out of fold, (N,)."""
    columns, blended = oof.calibrated(folds, weights.values)
    trees = tuple(name for name in oof.margins if name != "lstm")
    if "lstm" in oof.margins and trees:
        _, columns["pair"] = oof.part(trees).calibrated(folds, start_weights(trees))
    return {**columns, "blend": blended}


def n_steps(settings: Settings) -> int:
    """Return how often a retrain calls ``advance`` at most: every fit of three members, and the LSTM's epochs."""
    return (settings.n_folds + 1) * (3 + settings.lstm_epochs)


def refusal_of(version: ModelVersion, verdict: Verdict) -> ChallengerRefused | None:
    """Return the error that says why a version does not serve, None if it may."""
    if verdict.passed:
        return None
    return ChallengerRefused(
        f"{version.version} was stored but not promoted: {verdict.reason}",
        fix=f"the champion, if any, serves on; see `kstock-batch models show {version.version}` and the newest data",
    )


def _contest(
    rows: LabelledRows, oof: OutOfFold, columns: Mapping[str, Probabilities], champion: Probabilities | None
) -> pl.DataFrame:
    """Return the rows the gate judges."""
    given = {
        "session": oof.session,
        "label": oof.y,
        "challenger": columns["blend"],
        "base": oof.base_rate,
        **oof.floors,
        **({} if champion is None else {"champion": champion}),
    }
    return rows.keys[oof.windows].select("atr_pct").with_columns(**{k: pl.Series(k, v) for k, v in given.items()})


def _write(folder: Path, trained: Trained) -> None:
    """Write the members, and the out-of-fold probabilities that the metrics were computed from."""
    for member in trained.members.values():
        member.save(folder)
    judged = judged_table(trained.rows, trained.oof, trained.columns)
    judged.write_parquet(folder / "judged.parquet", compression="zstd")
