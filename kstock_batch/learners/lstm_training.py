"""Training of the LSTM in torch; scoring needs none of this (see ``lstm.py``).

for each epoch: shuffle the training windows; for each batch: gather, forward, BCE on logits, clip, Adam
after it:       loss on the last sessions; no improvement lowers the rate, then ends the training
at the end:     the weights of the best epoch
"""

import copy
import ctypes
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil, log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from kstock_batch.errors import NotEnoughHistory
from kstock_batch.features.windows import FloatRows, RowNumbers, gather
from kstock_batch.market.contract import HORIZON, N_FEATURES

OnEpoch = Callable[[int, float, float | None], None]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_GLIBC_DEFAULT = 128 * 1024


class StockLSTM(nn.Module):
    """Two LSTM layers, additive attention over the sessions, one logit."""

    def __init__(
        self, input_size: int = N_FEATURES, hidden_size: int = 64, num_layers: int = 2, dropout: float = 0.2
    ) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(input_size, hidden_size, num_layers, batch_first=True, dropout=between)
        self.attention = nn.Linear(hidden_size, hidden_size)
        self.attention_score = nn.Linear(hidden_size, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden_size, 1)

    def forward(self, windows: Tensor) -> Tensor:
        """Return logits of shape (N,) for ``windows`` (N, T, F)."""
        states, _ = self.lstm(windows)  # (N, T, H)
        scores = self.attention_score(torch.tanh(self.attention(states)))  # (N, T, 1)
        context = (torch.softmax(scores, dim=1) * states).sum(dim=1)  # (N, H)
        logits: Tensor = self.head(self.dropout(context)).squeeze(1)
        return logits


@dataclass(frozen=True)
class Recipe:
    """How the network is trained; a rate is per step, a patience in epochs without a better validation loss."""

    batch_size: int = 512
    learning_rate: float = 1e-3
    warm_up_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    lower_rate_patience: int = 1
    stop_patience: int = 3

    def batch_for(self, n_windows: int) -> int:
        """Return the batch size: smaller for few windows, so that an epoch still has some twenty steps."""
        return min(self.batch_size, max(32, n_windows // 20))


@dataclass(frozen=True)
class Sample:
    """Windows to learn from, not gathered yet: values (rows, F) as the network reads them, ends and label (N,)."""

    values: FloatRows
    ends: RowNumbers
    label: FloatRows

    def part(self, chosen: NDArray[np.int64]) -> "Sample":
        """Return the windows at positions ``chosen``."""
        return Sample(self.values, self.ends[chosen], self.label[chosen])

    def batches(self, size: int, order: NDArray[np.int64] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield windows (B, T, F) and labels (B,) in ``order``."""
        for start in range(0, len(self.ends), size):
            rows = slice(start, start + size) if order is None else order[start : start + size]
            yield torch.from_numpy(gather(self.values, self.ends[rows])), torch.from_numpy(self.label[rows])


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training windows came to (mean BCE per window)."""

    train_loss: float
    validation_loss: float | None
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """Weights of the best epoch (of the last one where nothing was held out), and how they came about."""

    weights: dict[str, FloatRows]
    epochs: tuple[Epoch, ...]
    best_epoch: int
    n_windows: int
    recipe: Recipe

    def facts(self) -> dict[str, Any]:
        """Return JSON values for the member's card."""
        return {
            "n_windows": self.n_windows,
            "best_epoch": self.best_epoch,
            "history": [asdict(epoch) for epoch in self.epochs],
            "recipe": asdict(self.recipe),
        }


def split_by_session(
    session: NDArray[np.int64], share: float, purge: int = HORIZON
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return positions to train and to validate on: the last ``share`` of the sessions, ``purge`` sessions apart."""
    sessions = np.unique(session)
    first = sessions[-max(1, round(share * len(sessions)))] if len(sessions) else 0
    train, validation = np.flatnonzero(session < first - purge), np.flatnonzero(session >= first)
    if not len(train):
        raise NotEnoughHistory(
            f"{len(sessions)} sessions leave no window to train on before the last {share:.0%} and {purge} purged",
            fix="train on more sessions, or for a fixed number of epochs without validation",
        )
    return train, validation


def train(
    sample: Sample,
    validation: Sample | None,
    *,
    epochs: int,
    seed: int,
    threads: int,
    learning_rates: Sequence[float] | None = None,
    on_epoch: OnEpoch | None = None,
    recipe: Recipe = Recipe(),
) -> Trained:
    """Return the network trained for at most ``epochs``; the same arguments give the same bytes.

    ``learning_rates`` prescribes the rate of each epoch: what an earlier run with validation found.
    """
    with _reproducible(seed, threads), _freed_pages_kept():
        run = _Run(sample, validation, seed, recipe)
        history: list[Epoch] = []
        for number in range(1, epochs + 1):
            rate = learning_rates[number - 1] if learning_rates is not None else None
            history.append(run.epoch(rate))
            if on_epoch is not None:
                on_epoch(number, history[-1].train_loss, history[-1].validation_loss)
            if validation is not None and number - run.best_epoch >= recipe.stop_patience:
                break
        weights = {name: tensor.numpy().copy() for name, tensor in run.best_weights.items()}
    return Trained(weights, tuple(history), run.best_epoch, len(sample.ends), recipe)


class _Run:
    """One training under way: the network, its optimiser, and the best weights so far."""

    def __init__(self, sample: Sample, validation: Sample | None, seed: int, recipe: Recipe) -> None:
        self.sample, self.validation, self.recipe = sample, validation, recipe
        self.network = StockLSTM(input_size=sample.values.shape[1])
        _start_at_base_rate(self.network, sample.label)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=0.5, patience=recipe.lower_rate_patience
        )
        self.shuffle = np.random.default_rng(seed)
        self.done = self.best_epoch = 0
        self.best_loss = float("inf")
        self.best_weights: dict[str, Tensor] = self.network.state_dict()

    def epoch(self, prescribed_rate: float | None) -> Epoch:
        """Train one epoch, judge it, keep it if it is the best."""
        rate = self.optimiser.param_groups[0]["lr"] if prescribed_rate is None else prescribed_rate
        train_loss = self._pass(rate)
        validation_loss = None if self.validation is None else _loss(self.network, self.validation)
        self.done += 1
        if validation_loss is not None:
            self.plateau.step(validation_loss)
        judged = -self.done if validation_loss is None else validation_loss  # nothing held out: the last one is best
        if judged < self.best_loss:
            self.best_epoch, self.best_loss = self.done, judged
            self.best_weights = copy.deepcopy(self.network.state_dict())
        return Epoch(train_loss, validation_loss, rate)

    def _pass(self, rate: float) -> float:
        """Step through all training windows once and return their mean loss."""
        self.network.train()
        n = len(self.sample.ends)
        size = self.recipe.batch_for(n)
        warm_up = min(self.recipe.warm_up_steps, ceil(n / size)) if self.done == 0 else 1
        total = 0.0
        order = self.shuffle.permutation(n)
        for step, (windows, label) in enumerate(self.sample.batches(size, order), start=1):
            self.optimiser.param_groups[0]["lr"] = rate * min(1.0, step / warm_up)
            self.optimiser.zero_grad()
            loss = binary_cross_entropy_with_logits(self.network(windows), label)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_norm)
            self.optimiser.step()
            total += loss.item() * len(label)
        return total / n


def _loss(network: StockLSTM, sample: Sample) -> float:
    """Return the mean loss per window of ``sample``."""
    network.eval()
    with torch.inference_mode():
        losses = (
            binary_cross_entropy_with_logits(network(windows), label, reduction="sum").item()
            for windows, label in sample.batches(2048)
        )
        return sum(losses) / len(sample.ends)


def _start_at_base_rate(network: StockLSTM, label: FloatRows) -> None:
    """Let the first prediction be the base rate: otherwise the first epoch is spent on learning one number."""
    rate = float(np.clip(label.mean(dtype=np.float64), 0.01, 0.99))
    nn.init.constant_(network.head.bias, log(rate / (1 - rate)))


@contextmanager
def _reproducible(seed: int, threads: int) -> Iterator[None]:
    """Fix torch's seed and thread count, and leave both as they were."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


@contextmanager
def _freed_pages_kept() -> Iterator[None]:
    """Stop glibc from giving each batch's buffers back to the kernel: faulting them in again halves the speed."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set_thresholds(libc, 1 << 30)
    try:
        yield
    finally:
        _set_thresholds(libc, _GLIBC_DEFAULT)
        libc.malloc_trim(0)


def _set_thresholds(libc: ctypes.CDLL, n_bytes: int) -> None:
    """Set from which size on glibc maps a buffer on its own, and how much free memory it returns."""
    libc.mallopt(_M_MMAP_THRESHOLD, n_bytes)
    libc.mallopt(_M_TRIM_THRESHOLD, n_bytes)
