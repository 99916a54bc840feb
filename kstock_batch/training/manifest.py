"""The manifest of a version: what was learnt from what, how it is scored, and what it was worth out of sample."""

import hashlib
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from kstock_batch import __version__
from kstock_batch.judging.drift_verdict import DriftVerdict
from kstock_batch.judging.metrics import Skill, skill
from kstock_batch.judging.reliability import brier_parts, reliability_curve
from kstock_batch.learners.inputs import describe_inputs
from kstock_batch.learners.linear import FLOORS
from kstock_batch.market.contract import FEATURE_NAMES, FEATURE_SET_VERSION, HORIZON, LABEL_RISE, fingerprint
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.provenance import library_versions
from kstock_batch.training.dataset import LabelledRows
from kstock_batch.training.fitting import level_member

if TYPE_CHECKING:
    from kstock_batch.training.retrain import Trained

SETTINGS = (
    *("train_sessions", "validation_share", "n_folds", "embargo_sessions", "tree_stride", "sequence_stride"),
    *("lstm_epochs", "tree_rounds", "budget_minutes", "device", "price_basis", "include_preferred"),
)


def manifest_of(
    trained: "Trained", settings: Settings, as_of: date, run: Run, drift: DriftVerdict | None
) -> dict[str, Any]:
    """Return the manifest: JSON values. All but ``created_at`` and ``run_id`` follow from data, seeds and versions.

    ``drift`` is what was known of the champion: told, and changing nothing, for the gate compares on the same rows.
    """
    rows, oof = trained.rows, trained.oof
    blend = trained.columns["blend"]
    return {
        "created_at": run.started_at.isoformat(),
        "run_id": run.run_id,
        "as_of": str(as_of),
        "program": __version__,
        "feature_set_version": FEATURE_SET_VERSION,
        "fingerprint": fingerprint(),
        "features": list(FEATURE_NAMES),
        "inputs": describe_inputs(),
        "label": {"horizon": HORIZON, "rise": LABEL_RISE},
        "base_rate": float(rows.label.mean()),
        "training": span(rows, np.arange(len(rows.sessions))) | {"data_digest": data_digest(rows)},
        "folds": [{"train": span(rows, fold.train), "test": span(rows, fold.test)} for fold in trained.folds],
        "judged": span(rows, np.concatenate([fold.test for fold in trained.folds])),
        "purge_sessions": HORIZON,
        "seed": settings.seed,
        "settings": {name: getattr(settings, name) for name in SETTINGS},
        "weights": dict(trained.weights.values),
        "weights_are": trained.weights.note,
        "level": level_member(tuple(trained.members)),
        "floors": {name: floor.as_json() for name, floor in trained.floors.items()},
        "members": {
            name: {
                "file": member.file_name,
                "calibrator": trained.calibration.members[name].as_json(),
                "card": member.card(),
            }
            for name, member in trained.members.items()
        },
        "blend_calibrator": trained.calibration.blend.as_json(),
        "metrics": {name: found.row() for name, found in skills(trained).items()},
        "reliability": reliability_curve(blend, oof.y).rows(),
        "brier": brier_parts(blend, oof.y).row(),
        "gate": trained.verdict.as_json(),
        "drift": None if drift is None else drift.facts(),
        "over_budget": list(trained.overrun),
        "tuned": {name: dict(parameters) for name, parameters in trained.tuned.items()},
        "libraries": library_versions(),
    }


def skills(trained: "Trained") -> dict[str, Skill]:
    """Return the metrics of every column of out-of-fold probabilities, floors and base rate included."""
    oof = trained.oof
    atr_pct = trained.rows.keys[oof.windows]["atr_pct"].cast(pl.Float64).to_numpy()
    columns = {**trained.columns, **{name: oof.floors[name] for name in FLOORS}, "base_rate": oof.base_rate}
    if trained.champion is not None and not np.isnan(trained.champion).any():
        columns["champion"] = trained.champion
    return {
        name: skill(p, oof.y, oof.session, oof.base_rate, atr_pct=atr_pct, volatility=oof.floors["volatility"])
        for name, p in columns.items()
    }


def span(rows: LabelledRows, positions: Any) -> dict[str, Any]:
    """Return first and last session at ``positions`` and how many windows end in between."""
    n_rows = len(rows.chosen(positions))
    return {
        "first_session": str(rows.sessions[positions[0]]),
        "last_session": str(rows.sessions[positions[-1]]),
        "n_sessions": len(positions),
        "n_rows": n_rows,
    }


def data_digest(rows: LabelledRows) -> str:
    """Return a digest of every number that was learnt from: the same data give the same digest."""
    whole = hashlib.sha256()
    arrays: tuple[np.ndarray[Any, Any], ...] = (rows.inputs.tabular, rows.inputs.sequence, rows.ends, rows.label)
    for array in arrays:
        whole.update(np.ascontiguousarray(array).data.cast("B"))  # no copy: a gigabyte
    return whole.hexdigest()
