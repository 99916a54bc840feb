"""The LSTM member: trained in torch, scored in numpy, because importing torch takes longer than scoring the market."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import FloatRows, RowNumbers, gather
from kstock_batch.files import write_atomically
from kstock_batch.learners.base import Examples, Inputs, Margins, Probabilities
from kstock_batch.learners.calibration import sigmoid
from kstock_batch.learners.lstm_recipe import Recipe
from kstock_batch.learners.lstm_sample import Sample, split_by_session
from kstock_batch.learners.lstm_scaler import Scaler
from kstock_batch.learners.lstm_weights import Weights, is_bidirectional, refused, require_scaler, require_sound, sizes

CHUNK = 256  # windows scored at once: their gates stay in the processor's cache

OnEpoch = Callable[[int, float, float | None], None]

_MEAN, _STD = "scaler.mean", "scaler.std"  # beside the weights in the file


@dataclass(frozen=True)
class LstmMember:
    """A two-layer LSTM with attention over the last 20 bars.

    Attributes
    ----------
    weights : name of torch's state dict -> float32
    scaler : the scale on which the network reads its columns
    facts : how it was trained: JSON values
    """

    name: ClassVar[str] = "lstm"
    file_name: ClassVar[str] = "lstm.safetensors"

    weights: Weights
    scaler: Scaler
    facts: Mapping[str, Any]

    @classmethod
    def fit(
        cls,
        examples: Examples,
        *,
        epochs: int,
        seed: int,
        threads: int,
        stop_early: bool = True,
        validation_share: float = 0.15,
        learning_rates: Sequence[float] | None = None,
        on_epoch: OnEpoch | None = None,
        budget_s: float | None = None,
        device: str = "cpu",
        recipe: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return the member trained on ``examples.sequence_ends``.

        Parameters
        ----------
        epochs : at most so many with ``stop_early``, exactly so many without
        threads : how many cores to use; the member is the same to the byte whatever their number
        stop_early : hold out the last ``validation_share`` of the sessions and keep the epoch that does best there
        learning_rates : rate of each epoch; a refit passes the ``learning_rates`` of the run with validation
        on_epoch : called with (epoch from 1, training loss, validation loss or None)
        budget_s : seconds after which training stops, with the best so far; facts then say ``stopped_by`` "budget"
        device : "cpu", "cuda", "mps", or "auto" for cuda where there is one
        recipe : values of ``Recipe`` by name that replace its own; an unknown name is refused
        """
        from kstock_batch.learners import lstm_training

        chosen = Recipe.of(recipe)
        sample, validation = Sample.of(examples), None
        if stop_early:
            session = examples.inputs.session[examples.sequence_ends]
            past, recent = split_by_session(session, validation_share)
            sample, validation = sample.part(past), sample.part(recent)
        trained = lstm_training.train(
            sample,
            validation,
            epochs=epochs,
            seed=seed,
            threads=threads,
            learning_rates=learning_rates,
            on_epoch=on_epoch,
            budget_s=budget_s,
            device=device,
            recipe=chosen,
        )
        return cls.sound(trained.weights, trained.scaler, trained.facts(), "the LSTM just trained")

    @classmethod
    def sound(cls, weights: Weights, scaler: Scaler, facts: Mapping[str, Any], where: str) -> Self:
        """Return the member, or refuse what is not one, naming ``where`` it came from."""
        require_sound(weights, where)
        require_scaler(scaler, sizes(weights)[0], where)
        if is_bidirectional(weights):
            raise refused(where, "reads its windows in both directions, which is not scored here")
        return cls(weights, scaler, facts)

    @property
    def best_epoch(self) -> int:
        """Number of epochs the weights were trained for."""
        return int(self.facts["best_epoch"])

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Learning rate of each of those epochs, for a refit that follows them."""
        return tuple(float(epoch["learning_rate"]) for epoch in self.facts["history"][: self.best_epoch])

    def margin(self, inputs: Inputs, ends: RowNumbers) -> Margins:
        """Return log-odds of shape (N,) for the windows ending on rows ``ends``."""
        if inputs.sequence.shape[1] != sizes(self.weights)[0]:
            raise ModelRefused(
                f"the LSTM reads {sizes(self.weights)[0]} columns, the inputs have {inputs.sequence.shape[1]}",
                fix="score with the features this model was trained on, or retrain",
            )
        logits = np.empty(len(ends), dtype=np.float64)

        def score(start: int) -> None:
            windows = gather(inputs.sequence, ends[start : start + CHUNK])
            logits[start : start + CHUNK] = forward(self.weights, self.scaler.apply(windows))

        # Which thread computes a chunk changes none of its bits; numpy lets go of the interpreter in what takes long.
        with ThreadPoolExecutor(_n_threads()) as pool:
            list(pool.map(score, range(0, len(ends), CHUNK)))
        return logits

    def predict(self, inputs: Inputs, ends: RowNumbers) -> Probabilities:
        """Return uncalibrated probabilities of shape (N,) for the windows ending on rows ``ends``."""
        return sigmoid(self.margin(inputs, ends))

    def save(self, folder: Path) -> None:
        """Write ``folder``/lstm.safetensors."""
        tensors = {**self.weights, _MEAN: self.scaler.mean, _STD: self.scaler.std}
        # One metadata key: safetensors writes several in an order that differs from run to run.
        card = json.dumps({"facts": dict(self.facts)}, sort_keys=True)
        write_atomically(folder / self.file_name, safetensors.numpy.save(tensors, {"kstock": card}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        path = folder / cls.file_name
        try:
            with safe_open(path, framework="numpy") as file:
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
                card = json.loads((file.metadata() or {})["kstock"])
            scaler = Scaler(tensors.pop(_MEAN), tensors.pop(_STD))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise refused(str(path), f"cannot be read: {error}") from error
        return cls.sound(tensors, scaler, card["facts"], str(path))

    def card(self) -> dict[str, Any]:
        """Return sizes, recipe and losses per epoch."""
        input_size, hidden_size, num_layers = sizes(self.weights)
        return {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "num_layers": num_layers,
            "n_parameters": sum(int(weight.size) for weight in self.weights.values()),
            "n_constant_columns": int((self.scaler.std == 0).sum()),
            **self.facts,
        }


def _n_threads() -> int:
    """Return how many threads score: as many as OpenMP gives the trees, which an executor's workers are told."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else os.cpu_count() or 1


def forward(weights: Weights, windows: FloatRows) -> FloatRows:
    """Return logits of shape (N,) for scaled ``windows`` (N, T, F): what ``StockLSTM`` computes in eval mode."""
    states = np.ascontiguousarray(windows.swapaxes(0, 1))  # (T, N, F)
    for layer in range(sizes(weights)[2]):
        states = _layer(weights, layer, states)  # (T, N, H)
    hidden = np.tanh(states @ weights["attention.weight"].T + weights["attention.bias"])
    scores = hidden @ weights["attention_score.weight"][0]  # (T, N)
    attention = np.exp(scores - scores.max(axis=0))
    attention /= attention.sum(axis=0)
    context = np.einsum("tn,tnh->nh", attention, states)  # (N, H)
    logits: FloatRows = context @ weights["head.weight"][0] + weights["head.bias"]
    return logits


def _layer(weights: Weights, layer: int, below: FloatRows) -> FloatRows:
    """Return the hidden states (T, N, H) of one LSTM layer over ``below`` (T, N, D); gates lie as i, f, g, o."""
    w_in, w_hidden = weights[f"lstm.weight_ih_l{layer}"], weights[f"lstm.weight_hh_l{layer}"]
    size = w_hidden.shape[1]
    # sigmoid(x) = 0.5 tanh(0.5 x) + 0.5: one tanh serves all four gates, and it cannot overflow
    half = np.full(4 * size, 0.5, dtype=np.float32)
    half[2 * size : 3 * size] = 1
    recurrent = np.ascontiguousarray((w_hidden * half[:, None]).T)  # (H, 4H)
    bias = (weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]) * half
    gates = below @ (w_in * half[:, None]).T + bias  # (T, N, 4H)
    states = np.empty((*below.shape[:2], size), dtype=np.float32)
    hidden = cell = np.zeros((below.shape[1], size), dtype=np.float32)
    for t, gate in enumerate(gates):
        np.tanh(gate + hidden @ recurrent, out=gate)
        entry, keep, candidate, exit_ = np.split(gate, 4, axis=1)  # (N, H) each
        cell = (0.5 * keep + 0.5) * cell + (0.5 * entry + 0.5) * candidate
        hidden = np.multiply(0.5 * exit_ + 0.5, np.tanh(cell), out=states[t])
    return states
