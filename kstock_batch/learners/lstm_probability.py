"""The bot's LSTM: our network with a sigmoid at its end, trained on windows that are already cut, asked for one.

Python 3.9 syntax, numpy and torch only: the bot's environment has nothing else of what learners need. The network,
its training and its file are the job's own; here is only what the bot's calls add to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kstock_batch.errors import NotEnoughHistory
from kstock_batch.learners.lstm_checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from kstock_batch.learners.lstm_network import StockLSTM
from kstock_batch.learners.lstm_recipe import Recipe
from kstock_batch.learners.lstm_sample import Sample
from kstock_batch.learners.lstm_scaler import Scaler
from kstock_batch.learners.lstm_training import Trained, train
from kstock_batch.learners.lstm_weights import Weights, is_bidirectional, sizes
from kstock_batch.learners.torch_runtime import seeded

if TYPE_CHECKING:
    from kstock_batch.features.windows import FloatRows

_AT_ONCE = 256  # windows of validation


@dataclass(frozen=True)
class _BotsRecipe(Recipe):
    """Adam without warm-up or decay, as the bot's contract names it; only the clipping is the job's own."""

    warm_up_steps: int = 1
    weight_decay: float = 0.0
    lower_rate_patience: int = 5

    def batch_for(self, n_windows: int) -> int:
        """Return the batch size that was asked for, however few the windows are."""
        return self.batch_size


class ProbabilityLSTM(StockLSTM):
    """The network whose answer is a probability: the same weights under the same names."""

    def forward(self, windows: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Return probabilities of shape (N, 1) for ``windows`` (N, T, F)."""
        return torch.sigmoid(super().forward(windows, masks)).unsqueeze(1)


@dataclass(frozen=True)
class TrainedOnWindows:
    """The network of the best epoch, ready to be asked, the scale it reads, and how it came about.

    ``auc`` is that of the windows held out, NaN where they had one outcome only.
    """

    network: ProbabilityLSTM
    scaler: Scaler
    run: Trained
    auc: float


def train_on_windows(
    windows: FloatRows,
    label: FloatRows,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    patience: int,
    val_ratio: float,
    seed: int,
) -> TrainedOnWindows:
    """Return the network trained on the first of ``windows`` (N, T, F) and kept by the loss on the last ``val_ratio``.

    The windows must lie in order of time; those of training are shuffled among themselves, none across the border.
    """
    past, recent = _split_by_time(windows, label, val_ratio)
    recipe = _BotsRecipe(batch_size=batch_size, learning_rate=learning_rate, stop_patience=patience)
    run = train(past, recent, epochs=epochs, seed=seed, threads=1, recipe=recipe)
    network = network_of(run.weights)
    parts = (
        recent.part(part) for part in np.array_split(np.arange(len(recent.ends)), -(-len(recent.ends) // _AT_ONCE))
    )
    p = np.concatenate([probabilities(network, part.windows(), run.scaler) for part in parts])
    return TrainedOnWindows(network, run.scaler, run, _auc(p, recent.label))


def network_of(weights: Weights) -> ProbabilityLSTM:
    """Return the network with these weights, without dropout."""
    with seeded(0):  # the first weights are drawn, then replaced: the bot's own draws must not depend on it
        network = ProbabilityLSTM(*sizes(weights), bidirectional=is_bidirectional(weights))
    network.load_state_dict({name: torch.from_numpy(weight.copy()) for name, weight in weights.items()})
    return network.eval()


def probability_of(network: torch.nn.Module, recent: Any, scaler: Scaler | None) -> float:
    """Return what ``network`` says of one window (T, F) or (1, T, F)."""
    window = np.asarray(recent, dtype=np.float32)
    window = window[0] if window.ndim == 3 and len(window) == 1 else window
    if window.ndim != 2 or not len(window):
        raise ValueError(f"one window has shape (T, F), not {window.shape}")
    if scaler is not None and len(scaler.mean) != window.shape[1]:  # numpy would stretch one column over all
        raise ValueError(f"the window has {window.shape[1]} columns, its scale {len(scaler.mean)}")
    return float(probabilities(network, window[None], scaler)[0])


def probabilities(network: torch.nn.Module, windows: FloatRows, scaler: Scaler | None) -> FloatRows:
    """Return what ``network`` says of ``windows`` (N, T, F), shape (N,) float32; without a scaler they are scaled."""
    scaled = windows if scaler is None else scaler.apply(windows)
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        p: FloatRows = network(torch.from_numpy(np.ascontiguousarray(scaled)).to(device)).reshape(-1).cpu().numpy()
    return p


def scaler_of(mean: Any, std: Any) -> Scaler | None:
    """Return the scale of a mean and a deviation (F,), in which infinity and 0 both say "constant"; None of none."""
    if mean is None and std is None:
        return None
    centre, deviation = np.asarray(mean, dtype=np.float32), np.asarray(std, dtype=np.float32)
    if centre.ndim != 1 or centre.shape != deviation.shape:
        raise ValueError(f"mean and std must both have shape (F,), not {centre.shape} and {deviation.shape}")
    return Scaler(centre, np.where(np.isposinf(deviation), np.float32(0), deviation))


def mean_and_divisor(scaler: Scaler) -> tuple[FloatRows, FloatRows]:
    """Return what a window is centred and then divided by: infinity for a column that was constant."""
    return scaler.mean, np.where(scaler.std > 0, scaler.std, np.float32(np.inf))


def sound_examples(windows: Any, label: Any) -> tuple[FloatRows, FloatRows]:
    """Return windows (N, T, F) and labels (N,) as float32, or refuse what nothing can be learnt from."""
    x, y = np.asarray(windows, dtype=np.float32), np.asarray(label, dtype=np.float32)
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise ValueError(f"windows must have shape (N, T, F) and labels (N,), not {x.shape} and {y.shape}")
    if n := int((~np.isfinite(x)).sum()):
        raise ValueError(f"{n} of {x.size} values of the windows are no numbers: leave those windows out")
    if odd := sorted(set(y.tolist()) - {0.0, 1.0})[:5]:
        raise ValueError(f"labels are 0 or 1, not {odd}: leave out windows whose outcome is not known yet")
    return x, y


def save(network: torch.nn.Module, scaler: Scaler | None, path: Path) -> None:
    """Write the network and its scale to ``path`` whole or not at all, or refuse a network that is not ours."""
    if scaler is None:
        raise ValueError("a model is saved with the mean and std that its windows are scaled by")
    weights = {name: weight.detach().cpu().numpy() for name, weight in network.state_dict().items()}
    write_checkpoint(Checkpoint.sound(weights, scaler, "the LSTM to save"), path)


def load(path: Path) -> tuple[ProbabilityLSTM, Scaler]:
    """Return the network and the scale that ``save`` or ``kstock-batch models lstm-file`` wrote."""
    found = read_checkpoint(path)
    return network_of(found.weights), found.scaler


def _split_by_time(windows: FloatRows, label: FloatRows, val_ratio: float) -> tuple[Sample, Sample]:
    """Return the windows to train on and those after them to validate on."""
    n, length, n_columns = windows.shape
    n_past = n - max(1, round(n * val_ratio))
    if n_past < 1:
        raise NotEnoughHistory(
            f"{n} windows leave none to train on before the last {val_ratio:.0%}",
            fix="train on more sessions: build_sequences needs more than 20 rows",
        )
    rows = windows.reshape(n * length, n_columns)  # a window's bars are adjacent rows, none shared with another
    ends = np.arange(1, n + 1, dtype=np.int64) * length - 1
    whole = Sample(rows, ends, label, np.zeros(n, dtype=np.float32), length)
    return whole.part(np.arange(n_past)), whole.part(np.arange(n_past, n))


def _auc(p: FloatRows, label: FloatRows) -> float:
    """Return the probability that a rise is ranked above another window; ties count half."""
    yes, no = p[label == 1], np.sort(p[label == 0])
    if not len(yes) or not len(no):
        return float("nan")
    below: Any = np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")
    return float(below.mean() / (2 * len(no)))
