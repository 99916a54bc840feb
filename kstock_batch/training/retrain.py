"""The weekly retrain: learn from what is known, prove it on what followed, promote what is worth it.

1. The last ``validation_share`` of the sessions is held out; its first half calibrates, its second half judges.
2. Members are then trained again on everything, the LSTM for the epochs found in 1; the calibrators of the whole
   held-out block, where every probability was out of sample, go with them.
3. The version becomes champion if its blend beat the base rate on the judging half.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from kstock_batch import __version__
from kstock_batch.errors import ChallengerRefused
from kstock_batch.features.completeness import require_complete
from kstock_batch.learners.base import Member
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.inputs import describe_inputs
from kstock_batch.market.contract import FEATURE_NAMES, FEATURE_SET_VERSION, HORIZON, LABEL_RISE, fingerprint
from kstock_batch.registry import ModelVersion, Registry
from kstock_batch.settings import Settings
from kstock_batch.store.ledger import Run
from kstock_batch.store.warehouse import Warehouse
from kstock_batch.training.dataset import LabelledRows, labelled_rows
from kstock_batch.training.evaluate import Evaluation, evaluate, fit_members
from kstock_batch.training.splits import Blocks, last_blocks

LIBRARIES = ("duckdb", "lightgbm", "numpy", "polars", "torch", "xgboost", "xgboost-cpu")
Advance = Callable[[str], None]


@dataclass(frozen=True)
class Retrained:
    """A stored version; it serves unless ``refusal`` says why not."""

    version: ModelVersion
    refusal: ChallengerRefused | None


def retrain(
    warehouse: Warehouse, settings: Settings, run: Run, as_of: date, advance: Advance = lambda _: None
) -> Retrained:
    """Train on what was known on the night of ``as_of``, store the version, promote it if it beats the base rate."""
    require_complete(warehouse.con, as_of, settings)
    with run.stage("read training rows") as stage:
        rows = labelled_rows(warehouse.con, as_of, n_sessions=settings.train_sessions)
        stage.n_rows = len(rows.ends)
    blocks = last_blocks(len(rows.sessions), validation_share=settings.validation_share, horizon=HORIZON)
    with run.stage("train and judge") as stage:
        judged = evaluate(rows, blocks, settings, advance)
        stage.n_rows = len(rows.chosen(blocks.train))
    with run.stage("train on everything") as stage:
        everything = np.arange(len(rows.ends))
        examples = rows.examples(everything, stride=settings.sequence_stride)
        members = fit_members(examples, settings, advance, like=judged.members)
        stage.n_rows = len(everything)
    held_out = np.concatenate([judged.calibration_windows, judged.judge_windows])
    calibration = CalibratedBlend.fit(judged.raw, rows.label[held_out].astype(np.float64))
    manifest = _manifest(rows, blocks, judged, members, calibration, settings, as_of, run)
    with run.stage("store version"):
        registry = Registry(settings.models)
        version = registry.add(run.started_at, manifest, lambda folder: _write(folder, members, rows, judged))
    refusal = why_not_promote(version)
    if refusal is None:
        registry.promote(version.version, at=run.started_at)
    return Retrained(version, refusal)


def n_steps(settings: Settings) -> int:
    """Return how often a retrain calls ``advance`` at most: two rounds of three members and the LSTM's epochs."""
    return 2 * (3 + settings.lstm_epochs)


def why_not_promote(version: ModelVersion) -> ChallengerRefused | None:
    """Return a reason unless the blend's log-loss on the judging block is below that of always saying the base rate."""
    metrics = version.manifest["metrics"]
    blend, base = metrics["blend"]["log_loss"], metrics["base_rate"]["log_loss"]
    if blend < base:
        return None
    return ChallengerRefused(
        f"{version.version} was stored but not promoted: its log-loss {blend:.5f} out of sample is not below"
        f" {base:.5f}, that of always saying the base rate",
        fix=f"the champion, if any, serves on; see `kstock-batch models show {version.version}` and the newest data",
    )


def _write(folder: Path, members: Mapping[str, Member], rows: LabelledRows, judged: Evaluation) -> None:
    """Write the members, and the out-of-sample probabilities that the metrics were computed from."""
    for member in members.values():
        member.save(folder)
    columns = {name: p for name, p in judged.judged.items() if name != "base_rate"}
    table = rows.keys[judged.judge_windows].with_columns(
        pl.lit(judged.base_rate).alias("base"), **{name: pl.Series(name, p) for name, p in columns.items()}
    )
    table.write_parquet(folder / "judged.parquet", compression="zstd")


def _manifest(
    rows: LabelledRows,
    blocks: Blocks,
    judged: Evaluation,
    members: Mapping[str, Member],
    calibration: CalibratedBlend,
    settings: Settings,
    as_of: date,
    run: Run,
) -> dict[str, Any]:
    def span(positions: Any) -> dict[str, Any]:
        windows = rows.chosen(positions)
        first, last = rows.sessions[positions[0]], rows.sessions[positions[-1]]
        return {"first_session": str(first), "last_session": str(last), "n_rows": len(windows)}

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
        "training": span(np.arange(len(rows.sessions))) | {"data_digest": _digest(rows)},
        "blocks": {name: span(positions) for name, positions in asdict(blocks).items()},
        "purge_sessions": HORIZON,
        "seed": settings.seed,
        "settings": {
            name: getattr(settings, name)
            for name in ("train_sessions", "validation_share", "sequence_stride", "lstm_epochs", "tree_rounds")
        },
        "weights": dict(calibration.weights),
        "members": {
            name: {
                "file": member.file_name,
                "calibrator": calibration.members[name].as_json(),
                "card": member.card(),
            }
            for name, member in members.items()
        },
        "blend_calibrator": calibration.blend.as_json(),
        "judged_base_rate": judged.base_rate,
        "metrics": {name: metrics.row() for name, metrics in judged.skills.items()},
        "libraries": _library_versions(),
    }


def _digest(rows: LabelledRows) -> str:
    """Return a digest of every number that was learnt from: the same data give the same digest."""
    whole = hashlib.sha256()
    for array in (rows.inputs.tabular, rows.inputs.sequence, rows.ends, rows.label):
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def _library_versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
