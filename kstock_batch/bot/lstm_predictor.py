"""The bot's LSTM calls under the bot's own names: importable without torch, and without it the two tree models go on.

    model, mean, std = load_lstm_model()      # None, None, None = no file or no torch
    predict_lstm(model, window, mean, std)    # 0.5 = nothing to say

Standard library and Python 3.9 syntax only; numpy and torch are imported by the first call that needs them. The
network, its training and its file are the job's own (``learners/lstm_probability.py``). A window must hold what its
model was trained on: for the file of ``kstock-batch models lstm-file`` that is ranks within the session, not values.
"""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import fsum, isfinite, nan
from pathlib import Path
from typing import Any

from kstock_batch.bot.results import PredictionResult, signal_label
from kstock_batch.bot.tree_members import tree_probabilities
from kstock_batch.errors import ModelRefused

log = logging.getLogger(__name__)

SEQUENCE_LENGTH = 20
DEFAULT_PATH = Path("models") / "lstm_stock.pt"
SEED = 20260101

_HAS_TORCH = find_spec("torch") is not None  # the bot's tests ask for it by this name
_NEUTRAL = 0.5
_SILENT = 0.01  # an LSTM nearer than this to neutral has nothing to say
_WEIGHTS = {"lgb": 0.35, "xgb": 0.30, "lstm": 0.35}
_TREE_WEIGHTS = {"lgb": 0.55, "xgb": 0.45}
_NO_MODEL = (None, None, None)


class StockLSTM(ABC):  # noqa: B024  # abstract in that calling it gives the real one
    """The network: calling it gives a torch module (N, T, F) -> (N, 1) in 0 … 1, which ``isinstance`` recognises."""

    def __new__(
        cls,
        input_size: int = 30,
        hidden_size: int = 64,
        num_layers: int = 2,
        dropout: float = 0.2,
        bidirectional: bool = False,
    ) -> Any:
        """Return a new network, or say that it needs torch."""
        if (room := _torch_room()) is None:
            raise ModelRefused(
                "StockLSTM needs torch, which is not installed here",
                fix="install torch, or go on with the two tree models",
            )
        return room.ProbabilityLSTM(input_size, hidden_size, num_layers, dropout, bidirectional)


@dataclass(frozen=True)
class LSTMTrainResult:
    """How a training went; NaN = not measured, as where torch is absent.

    Attributes
    ----------
    train_loss, val_loss : mean BCE of the epoch whose weights were kept
    val_auc : of those weights on the windows held out; NaN where they had one outcome only
    epochs_trained, best_epoch : counted from 1; 0 = nothing was trained
    overfitting_warning : the last epoch's training loss fell below half of ``val_loss``: it learns by heart
    """

    train_loss: float = nan
    val_loss: float = nan
    val_auc: float = nan
    epochs_trained: int = 0
    best_epoch: int = 0
    overfitting_warning: bool = False


def build_sequences(matrix: Any, targets: Any, seq_len: int = SEQUENCE_LENGTH) -> tuple[Any, Any]:
    """Return windows (N, T, F) of one ticker's rows and the target of the row after each, (N,), both float32.

    ``matrix`` (rows, F) and ``targets`` (rows,) lie oldest first; N = rows - T, or 0 where there are no more than T.
    """
    import numpy as np

    rows, after = np.asarray(matrix, dtype=np.float32), np.asarray(targets, dtype=np.float32)
    if rows.ndim != 2 or after.shape != rows.shape[:1] or seq_len < 1:
        raise ValueError(
            f"rows of shape {rows.shape} and targets of {after.shape} make no windows of {seq_len}:"
            " give (rows, F), (rows,) and 1 or more"
        )
    starts = np.arange(max(0, len(rows) - seq_len))
    return rows[starts[:, None] + np.arange(seq_len)], after[starts + seq_len]


def train_lstm(
    X: Any,  # the bot's names in the bot's order, here and below
    y: Any,
    epochs: int = 50,
    batch_size: int = 32,
    learning_rate: float = 0.001,
    patience: int = 10,
    val_ratio: float = 0.2,
    *,
    seed: int = SEED,
) -> tuple[Any, Any, Any, LSTMTrainResult]:
    """Return a model, the mean and deviation (F,) its columns are scaled by, and how the training went.

    Without torch they are None, None, None and a result that says that nothing was trained. The same arguments give
    the same model. A deviation is infinite where a column was constant: divided by it, the column stays 0.

    Parameters
    ----------
    X : (N, T, F) in order of time, oldest window first; the last ``val_ratio`` of them are held out
    y : (N,) outcomes 0 or 1. Where outcomes overlap, leave out the windows whose outcome reaches into those held out
    """
    if (room := _torch_room()) is None:
        return (*_NO_MODEL, LSTMTrainResult())
    if not 0 < val_ratio < 1:
        raise ValueError(f"val_ratio is {val_ratio}: give a share between 0 and 1")
    if min(epochs, batch_size, patience) < 1:
        raise ValueError(f"epochs, batch_size and patience are {epochs}, {batch_size} and {patience}: give 1 or more")
    windows, label = room.sound_examples(X, y)
    trained = room.train_on_windows(
        windows,
        label,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        patience=patience,
        val_ratio=val_ratio,
        seed=seed,
    )
    run = trained.run
    kept, last = run.epochs[run.best_epoch - 1], run.epochs[-1]
    result = LSTMTrainResult(
        train_loss=kept.train_loss,
        val_loss=kept.validation_loss,
        val_auc=trained.auc,
        epochs_trained=len(run.epochs),
        best_epoch=run.best_epoch,
        overfitting_warning=last.train_loss < kept.validation_loss / 2,
    )
    return (trained.network, *room.mean_and_divisor(trained.scaler), result)


def predict_lstm(model: Any, recent: Any, mean: Any = None, std: Any = None) -> float:
    """Return what ``model`` says of ``recent`` (T, F), oldest bar first: 0 … 1.

    0.5 without torch, model or window, and where a value of the window is no number. Without ``mean`` and ``std`` the
    window is taken as scaled.
    """
    if model is None or recent is None or (room := _torch_room()) is None:
        return _NEUTRAL
    p: float = room.probability_of(model, recent, room.scaler_of(mean, std))
    return p if isfinite(p) else _NEUTRAL


def save_lstm_model(model: Any, mean: Any, std: Any, path: str | os.PathLike[str] | None = None) -> Path | None:
    """Write a model and its scale whole or not at all, and return where; None = no torch or model, nothing written."""
    if model is None or (room := _torch_room()) is None:
        return None
    target = DEFAULT_PATH if path is None else Path(path)
    room.save(model, room.scaler_of(mean, std), target)
    return target


def load_lstm_model(path: str | os.PathLike[str] | None = None) -> tuple[Any, Any, Any]:
    """Return the model and its scale that were saved, or None, None, None where the file or torch is missing.

    A file that is damaged, of another kind, or holds more than tensors and plain numbers raises ``ModelRefused``, and
    nothing in it is executed: whoever put it there must hear of it.
    """
    source = DEFAULT_PATH if path is None else Path(path)
    if not source.exists() or (room := _torch_room()) is None:
        return _NO_MODEL
    network, scaler = room.load(source)
    return (network, *room.mean_and_divisor(scaler))


def ensemble_3model_predict(
    lgb: float, xgb: float, lstm: float | None, weights: Sequence[float] = tuple(_WEIGHTS.values())
) -> float:
    """Return the weighted mean; without the LSTM (None, NaN, or within 0.01 of 0.5) 0.55 · lgb + 0.45 · xgb."""
    if lstm is None or not abs(lstm - _NEUTRAL) >= _SILENT:  # so written, NaN is silence too
        return _TREE_WEIGHTS["lgb"] * lgb + _TREE_WEIGHTS["xgb"] * xgb
    of_lgb, of_xgb, of_lstm = weights
    if min(weights) < 0 or not (total := fsum(weights)) > 0:  # a plain sum of 0.35, 0.30 and 0.35 is not 1
        raise ValueError(f"weights {tuple(weights)} are no shares: give three numbers from 0 on, not all 0")
    return (of_lgb * lgb + of_xgb * xgb + of_lstm * lstm) / total


def get_lstm_enhanced_prediction(
    features_dict: Mapping[str, float],
    ml_model: Any = None,
    recent_sequence: Any = None,
    *,
    path: str | os.PathLike[str] | None = None,
) -> PredictionResult | None:
    """Return the blend of what each member itself says, not explained; None where no member is there.

    It is on the members' own scale: nothing here is calibrated or brought under an even prior. What is, the job
    publishes and ``reader.PredictionReader`` reads.

    Parameters
    ----------
    features_dict : one row; a value that is missing is NaN to the trees
    ml_model : a mapping or object with ``lgb`` (or ``lgbm``) and ``xgb``, each a classifier, a booster or None
    recent_sequence : (T, F), oldest bar first, of which the last 20 are read. Without it, with fewer bars or a value
        that is no number, and without torch or a sound file at ``path``, the trees go on alone
    """
    said = tree_probabilities(ml_model, features_dict)
    if (p := _lstm_probability(recent_sequence, DEFAULT_PATH if path is None else Path(path))) is not None:
        said["lstm"] = p
    if not said:
        return None
    blended = _blend(said)
    return PredictionResult(blended, signal_label(blended))


def _blend(said: Mapping[str, float]) -> float:
    """Return the mean over the members present, weights scaled up."""
    if said.keys() == _WEIGHTS.keys():
        return ensemble_3model_predict(said["lgb"], said["xgb"], said["lstm"])
    weights = _WEIGHTS if "lstm" in said else _TREE_WEIGHTS
    return sum(weights[name] * p for name, p in said.items()) / sum(weights[name] for name in said)


def _lstm_probability(recent: Any, path: Path) -> float | None:
    """Return what the LSTM at ``path`` says of the last bars, or None where it cannot say anything."""
    if recent is None or (model := _newest.at(path))[0] is None:
        return None
    import numpy as np

    bars = np.asarray(recent, dtype=np.float32)
    bars = bars[0] if bars.ndim == 3 and len(bars) == 1 else bars
    if len(bars) < SEQUENCE_LENGTH or not np.isfinite(bars).all():
        return None  # not the 0.5 that predict_lstm says for it: that would count as an opinion
    network, mean, std = model
    return predict_lstm(network, bars[-SEQUENCE_LENGTH:], mean, std)


class _NewestModel:
    """The model now at a path, loaded once from each file that appears there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[Any, tuple[Any, Any, Any]]] = {}

    def at(self, path: Path) -> tuple[Any, Any, Any]:
        """Return model, mean and deviation; None, None, None where there are none, said once of an unfit file."""
        try:
            found = path.stat()
        except OSError:
            return _NO_MODEL
        identity = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            known, model = self._known.get(path, (None, _NO_MODEL))
            if known != identity:
                model = self._load(path)
                self._known[path] = identity, model
        return model

    def _load(self, path: Path) -> tuple[Any, Any, Any]:
        try:
            return load_lstm_model(path)
        except ModelRefused as error:
            log.warning("going on without the LSTM: %s", error)
            return _NO_MODEL


_newest = _NewestModel()


@cache
def _torch_room() -> Any:
    """Return the module that works in torch, or None where torch cannot be had."""
    if not _HAS_TORCH:
        return None
    try:
        import kstock_batch.learners.lstm_probability as room
    except (ImportError, OSError) as error:  # OSError: torch is there, a library it links to is not
        if isinstance(error, ImportError) and (error.name or "").split(".")[0] not in ("torch", "numpy"):
            raise
        log.warning("going on without the LSTM: torch cannot be imported: %s", error)
        return None
    StockLSTM.register(room.ProbabilityLSTM)
    return room
