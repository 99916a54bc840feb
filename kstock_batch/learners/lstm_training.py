"""Training of the LSTM in torch; scoring needs none of this (see ``lstm.py``).

before it:      the scale of each column, from the bars of the training windows
for each epoch: shuffle the training windows; for each batch: gather, forward, BCE on logits, clip, Adam
after it:       loss on the last sessions; no improvement lowers the rate, then ends the training
at the end:     the weights of the best epoch

A batch is computed in shards of a fixed number of windows, each by one thread on one core, and their gradients are
summed in the order of the shards. Threads meet once a batch instead of once an operation, which keeps the speed where
other work takes a core, and the same seed gives the same bytes whatever the number of threads.

Python 3.9 syntax, numpy and torch only, because the bot can train too (see ``lstm_probability.py``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from itertools import repeat
from math import ceil, inf
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from kstock_batch.learners.lstm_network import StockLSTM
from kstock_batch.learners.lstm_recipe import Recipe
from kstock_batch.learners.lstm_sample import Sample
from kstock_batch.learners.lstm_scaler import Scaler
from kstock_batch.learners.torch_runtime import find_device, freed_pages_kept, seeded, workers

if TYPE_CHECKING:
    from kstock_batch.features.windows import FloatRows
    from kstock_batch.learners.lstm import OnEpoch

Positions = NDArray[np.int64]

_JUDGED_AT_ONCE = 256  # windows of validation per thread


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training windows came to (mean BCE per window)."""

    train_loss: float
    validation_loss: float | None
    learning_rate: float


@dataclass(frozen=True)
class Trained:
    """Weights of the best epoch (of the last one where nothing was held out), and how they came about.

    ``stopped_by`` is "epochs", "patience" or "budget"; a budget ends the last epoch of ``epochs`` before its end.
    """

    weights: dict[str, FloatRows]
    scaler: Scaler
    epochs: tuple[Epoch, ...]
    best_epoch: int
    stopped_by: str
    n_windows: int
    recipe: Recipe

    def facts(self) -> dict[str, Any]:
        """Return JSON values for the member's card."""
        return {
            "n_windows": self.n_windows,
            "best_epoch": self.best_epoch,
            "stopped_by": self.stopped_by,
            "history": [asdict(epoch) for epoch in self.epochs],
            "recipe": asdict(self.recipe),
        }


def train(
    sample: Sample,
    validation: Sample | None,
    *,
    epochs: int,
    seed: int,
    threads: int,
    learning_rates: Sequence[float] | None = None,
    on_epoch: OnEpoch | None = None,
    budget_s: float | None = None,
    device: str = "cpu",
    recipe: Recipe = Recipe(),  # noqa: B008  # frozen
) -> Trained:
    """Return the network trained for at most ``epochs``; on a processor, the same arguments give the same bytes.

    ``learning_rates`` prescribes the rate of each epoch: what an earlier run with validation found.
    ``budget_s`` ends it after the first step that passes so many seconds; at least one step is made.
    """
    deadline = inf if budget_s is None else monotonic() + budget_s
    on = find_device(device)
    with workers(threads if on.type == "cpu" else 1) as pool, freed_pages_kept(), seeded(seed):
        run = _Run(sample, validation, pool, on, seed, recipe, deadline)
        history: list[Epoch] = []
        stopped_by = None
        while stopped_by is None:
            rate = learning_rates[len(history)] if learning_rates is not None else None
            history.append(run.epoch(rate))
            if on_epoch is not None:
                on_epoch(len(history), history[-1].train_loss, history[-1].validation_loss)
            stopped_by = run.reason_to_stop(epochs)
        weights = {name: tensor.cpu().numpy().copy() for name, tensor in run.best_weights.items()}
    return Trained(weights, run.scaler, tuple(history), run.best_epoch, stopped_by, len(sample.ends), recipe)


class _Run:
    """One training under way: the network, its optimiser, and the best weights so far."""

    def __init__(
        self,
        sample: Sample,
        validation: Sample | None,
        pool: Executor,
        device: torch.device,
        seed: int,
        recipe: Recipe,
        deadline: float,
    ) -> None:
        self.sample, self.validation, self.pool, self.device = sample, validation, pool, device
        self.seed, self.recipe, self.deadline = seed, recipe, deadline
        self.scaler = Scaler.fit(sample.values, sample.ends, sample.length)
        self.mean, self.scale = (torch.from_numpy(a).to(device) for a in (self.scaler.mean, self.scaler.scale))
        self.network = StockLSTM(input_size=sample.values.shape[1])
        _start_at_base_rate(self.network, sample)
        self.parameters = list(self.network.to(device).parameters())
        self.optimiser = torch.optim.AdamW(self.parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self.optimiser, factor=0.5, patience=recipe.lower_rate_patience
        )
        self.shuffle = np.random.default_rng(seed)
        self.done = self.n_steps = self.best_epoch = 0
        self.best_loss = inf
        self.best_weights: dict[str, Tensor] = self.network.state_dict()
        self.is_cut = False

    def epoch(self, prescribed_rate: float | None) -> Epoch:
        """Train one epoch, judge it, keep it if it is the best."""
        rate = self.optimiser.param_groups[0]["lr"] if prescribed_rate is None else prescribed_rate
        train_loss = self._pass(rate)
        validation_loss = None if self.validation is None else self._loss(self.validation)
        self.done += 1
        if validation_loss is not None:
            self.plateau.step(validation_loss)
        judged = -self.done if validation_loss is None else validation_loss  # nothing held out: the last one is best
        if judged < self.best_loss:
            self.best_epoch, self.best_loss = self.done, judged
            self.best_weights = copy.deepcopy(self.network.state_dict())
        return Epoch(train_loss, validation_loss, rate)

    def reason_to_stop(self, epochs: int) -> str | None:
        """Return why no further epoch should follow the one just done."""
        if self.is_cut:
            return "budget"
        if self.validation is not None and self.done - self.best_epoch >= self.recipe.stop_patience:
            return "patience"
        if self.done >= epochs:
            return "epochs"
        return "budget" if monotonic() >= self.deadline else None

    def _pass(self, rate: float) -> float:
        """Step through all training windows once, or until the deadline, and return their mean loss."""
        self.network.train()
        n = len(self.sample.ends)
        size = self.recipe.batch_for(n)
        warm_up = min(self.recipe.warm_up_steps, ceil(n / size)) if self.done == 0 else 1
        total, seen = 0.0, 0
        order = self.shuffle.permutation(n)
        for step, start in enumerate(range(0, n, size), start=1):
            self.optimiser.param_groups[0]["lr"] = rate * min(1.0, step / warm_up)
            batch = order[start : start + size]
            total += self._step(batch)
            seen += len(batch)
            if seen < n and monotonic() >= self.deadline:
                self.is_cut = True
                break
        return total / seen

    def _step(self, batch: Positions) -> float:
        """Follow the gradient of the mean loss of ``batch`` once and return the sum of its losses."""
        self.n_steps += 1
        shards = _shards(batch, self.recipe.shard_size)
        found = list(self.pool.map(self._gradient, shards, range(len(shards)), repeat(len(batch))))
        for n, parameter in enumerate(self.parameters):
            first, *others = (gradient[n] for _, gradient in found)
            parameter.grad = sum(others, start=first)  # always in this order: float sums depend on it
        nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        self.optimiser.step()
        return sum(loss for loss, _ in found)

    def _gradient(self, shard: Positions, number: int, n_batch: int) -> tuple[float, tuple[Tensor, ...]]:
        """Return the sum of the losses of ``shard``, and its part of the gradient of the batch's mean loss."""
        random = np.random.Generator(np.random.SFC64([self.seed, self.n_steps, number]))
        masks = [mask.to(self.device) for mask in self.network.draw_masks(len(shard), random, self.sample.length)]
        loss = self._losses(self.sample.part(shard), masks)
        return loss.item(), torch.autograd.grad(loss / n_batch, self.parameters)

    def _losses(self, part: Sample, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Return the sum of the losses of ``part``."""
        windows, label, offset = (
            torch.from_numpy(array).to(self.device) for array in (part.windows(), part.label, part.offset)
        )
        logits = self.network((windows - self.mean) * self.scale, masks) + offset
        return binary_cross_entropy_with_logits(logits, label, reduction="sum")

    def _loss(self, sample: Sample) -> float:
        """Return the mean loss per window of ``sample``."""
        self.network.eval()

        def judge(chosen: Positions) -> float:
            with torch.inference_mode():  # a thread's own: it must be asked for where the work is done
                return self._losses(sample.part(chosen)).item()

        n = len(sample.ends)
        return sum(self.pool.map(judge, _shards(np.arange(n), _JUDGED_AT_ONCE))) / n


def _shards(positions: Positions, size: int) -> list[Positions]:
    """Return ``positions`` in parts of ``size``."""
    return [positions[start : start + size] for start in range(0, len(positions), size)]


def _start_at_base_rate(network: StockLSTM, sample: Sample) -> None:
    """Let the first prediction be the base rate: otherwise the first epoch is spent on learning one number."""

    def log_odds(rate: float) -> float:
        kept = np.clip(rate, 0.01, 0.99)
        return float(np.log(kept / (1 - kept)))

    offset = sample.offset.astype(np.float64)
    known = log_odds(float(np.mean(0.5 * (np.tanh(0.5 * offset) + 1))))  # what the offsets alone say; 0 without them
    nn.init.constant_(network.head.bias, log_odds(float(sample.label.mean(dtype=np.float64))) - known)
