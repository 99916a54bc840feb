"""What a search for parameters works on: the folds of a retrain, and the name of all that makes trials comparable."""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kstock_batch.features.completeness import require_complete
from kstock_batch.learners.base import Examples
from kstock_batch.learners.inputs import INPUTS_VERSION
from kstock_batch.learners.members import own_parameters
from kstock_batch.market.contract import HORIZON, fingerprint
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.training.dataset import LabelledRows, labelled_rows
from kstock_batch.training.fitting import StopExamples, level_member, members_here
from kstock_batch.training.manifest import data_digest
from kstock_batch.training.out_of_fold import stop_examples, strides
from kstock_batch.training.retrain import folds_of
from kstock_batch.training.search_space import SPACES
from kstock_batch.training.splits import Fold, require_purged

FOLD_SETTINGS = ("train_sessions", "validation_share", "n_folds", "embargo_sessions", "seed")
OF_MEMBER = {
    "lgbm": ("tree_stride", "tree_rounds"),
    "xgb": ("tree_stride", "tree_rounds"),
    "lstm": ("sequence_stride", "lstm_epochs", "device"),
}
LIBRARIES = {"lgbm": ("lightgbm",), "xgb": ("xgboost", "xgboost-cpu"), "lstm": ("torch",)}


@dataclass(frozen=True)
class Block:
    """One fold as a trial needs it: what to learn from, and the windows that judge."""

    train: Examples
    fold: Fold
    windows: NDArray[np.int64]


@dataclass(frozen=True)
class Material:
    """What all trials of all members share.

    Attributes
    ----------
    as_of : the night whose knowledge it is
    digest : of every number that is learnt from
    stop : the first fold's training part, its end held out to say how long to train
    """

    rows: LabelledRows
    as_of: date
    digest: str
    blocks: tuple[Block, ...]
    stop: StopExamples


def material_of(run: Run, settings: Settings, as_of: date) -> Material:
    """Return the folds of a retrain on the night of ``as_of``."""
    con = run.warehouse.con
    require_complete(con, as_of, settings)
    with run.stage("read training rows") as stage:
        rows = labelled_rows(con, as_of, n_sessions=settings.train_sessions)
        stage.n_rows = len(rows.ends)
    folds = folds_of(len(rows.sessions), settings)
    blocks = []
    for fold in folds:
        require_purged(fold, HORIZON)
        train = rows.examples(rows.chosen(fold.train), **strides(settings))
        blocks.append(Block(train, fold, rows.chosen(fold.test)))
    return Material(rows, as_of, data_digest(rows), tuple(blocks), stop_examples(rows, folds[0], settings))


def study_name(member: str, material: Material, settings: Settings) -> str:
    """Return a name that two searches share only if their trials can be compared."""
    own = own_parameters(member, n_learnt(member, material))
    held = {name: getattr(settings, name) for name in (*FOLD_SETTINGS, *OF_MEMBER[member])}
    space = {name: repr(values) for name, values in SPACES[member].items()}
    facts = [held, own, space, level_member(members_here()) == member, _version(member)]
    rest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    parts = (
        member,
        str(material.as_of),
        material.digest[:12],
        fingerprint()[:12],
        f"inputs{INPUTS_VERSION}",
        rest[:12],
    )
    return "_".join(parts)


def study_facts(member: str, material: Material) -> dict[str, Any]:
    """Return what a study must know of its rows to be reported without them: JSON values."""
    windows = np.concatenate([block.windows for block in material.blocks])
    _, counts = np.unique(material.rows.position[windows], return_counts=True)
    return {
        "member": member,
        "as_of": str(material.as_of),
        "data_digest": material.digest,
        "session_counts": counts.tolist(),
        "n_folds": len(material.blocks),
    }


def n_learnt(member: str, material: Material) -> int:
    """Return how many rows the last fold's member learns from."""
    last = material.blocks[-1].train
    return len(last.sequence_ends if member == "lstm" else last.ends)


def _version(member: str) -> str:
    for name in LIBRARIES[member]:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""
