"""The LSTM member: trained in torch, scored in numpy, because importing torch takes longer than scoring the market."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import FloatRows, RowNumbers, gather
from kstock_batch.files import write_atomically
from kstock_batch.learners.base import Examples, Inputs, Probabilities

if TYPE_CHECKING:
    from kstock_batch.learners.lstm_training import OnEpoch

INPUT_SCALE = float(np.sqrt(12))  # ranks uniform on -0.5 … 0.5 to unit variance
CHUNK = 256  # windows scored at once: their gates stay in the processor's cache

Weights = Mapping[str, FloatRows]


@dataclass(frozen=True)
class LstmMember:
    """A two-layer LSTM with attention over the last 20 bars.

    Attributes
    ----------
    weights : name of torch's state dict -> float32
    input_scale : what ranks are multiplied by before the network reads them
    facts : how it was trained: JSON values
    """

    name: ClassVar[str] = "lstm"
    file_name: ClassVar[str] = "lstm.safetensors"

    weights: Weights
    input_scale: float
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
        on_epoch: "OnEpoch | None" = None,
    ) -> Self:
        """Return the member trained on ``examples.sequence_ends``.

        Parameters
        ----------
        epochs : at most so many with ``stop_early``, exactly so many without
        stop_early : hold out the last ``validation_share`` of the sessions and keep the epoch that does best there
        learning_rates : rate of each epoch; a refit passes the ``learning_rates`` of the run with validation
        on_epoch : called with (epoch from 1, training loss, validation loss or None)
        """
        from kstock_batch.learners import lstm_training

        values = examples.inputs.sequence * np.float32(INPUT_SCALE)
        sample = lstm_training.Sample(values, examples.sequence_ends, examples.sequence_label)
        validation = None
        if stop_early:
            session = examples.inputs.session[examples.sequence_ends]
            past, recent = lstm_training.split_by_session(session, validation_share)
            sample, validation = sample.part(past), sample.part(recent)
        trained = lstm_training.train(
            sample,
            validation,
            epochs=epochs,
            seed=seed,
            threads=threads,
            learning_rates=learning_rates,
            on_epoch=on_epoch,
        )
        _require_sound(trained.weights, "the LSTM just trained")
        return cls(_without_silent_columns(trained.weights, examples), INPUT_SCALE, trained.facts())

    @property
    def best_epoch(self) -> int:
        """Number of epochs the weights were trained for."""
        return int(self.facts["best_epoch"])

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Learning rate of each of those epochs, for a refit that follows them."""
        return tuple(float(epoch["learning_rate"]) for epoch in self.facts["history"][: self.best_epoch])

    def predict(self, inputs: Inputs, ends: RowNumbers) -> Probabilities:
        """Return uncalibrated probabilities of shape (N,) for the windows ending on rows ``ends``."""
        if inputs.sequence.shape[1] != _sizes(self.weights)[0]:
            raise ModelRefused(
                f"the LSTM reads {_sizes(self.weights)[0]} columns, the inputs have {inputs.sequence.shape[1]}",
                fix="score with the features this model was trained on, or retrain",
            )
        logits = np.empty(len(ends), dtype=np.float64)
        for start in range(0, len(ends), CHUNK):
            windows = gather(inputs.sequence, ends[start : start + CHUNK]) * np.float32(self.input_scale)
            logits[start : start + CHUNK] = forward(self.weights, windows)
        return 0.5 * (np.tanh(0.5 * logits) + 1)  # the sigmoid, without its overflow

    def save(self, folder: Path) -> None:
        """Write ``folder``/lstm.safetensors."""
        # One metadata key: safetensors writes several in an order that differs from run to run.
        card = json.dumps({"input_scale": self.input_scale, "facts": dict(self.facts)}, sort_keys=True)
        write_atomically(folder / self.file_name, safetensors.numpy.save(dict(self.weights), {"kstock": card}))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote."""
        path = folder / cls.file_name
        try:
            with safe_open(path, framework="numpy") as file:
                weights = {name: file.get_tensor(name) for name in sorted(file.keys())}
                card = json.loads((file.metadata() or {})["kstock"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise _refused(str(path), f"cannot be read: {error}") from error
        _require_sound(weights, str(path))
        return cls(weights, float(card["input_scale"]), card["facts"])

    def card(self) -> dict[str, Any]:
        """Return sizes, recipe and losses per epoch."""
        input_size, hidden_size, num_layers = _sizes(self.weights)
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        n_parameters = sum(int(weight.size) for weight in self.weights.values())
        return {**sizes, "n_parameters": n_parameters, "input_scale": self.input_scale, **self.facts}


def forward(weights: Weights, windows: FloatRows) -> FloatRows:
    """Return logits of shape (N,) for scaled ``windows`` (N, T, F): what ``StockLSTM`` computes in eval mode."""
    states = np.ascontiguousarray(windows.swapaxes(0, 1))  # (T, N, F)
    for layer in range(_sizes(weights)[2]):
        states = _layer(weights, layer, states)  # (T, N, H)
    hidden = np.tanh(states @ weights["attention.weight"].T + weights["attention.bias"])
    scores = hidden @ weights["attention_score.weight"][0]  # (T, N)
    attention = np.exp(scores - scores.max(axis=0))
    attention /= attention.sum(axis=0)
    context = np.einsum("tn,tnh->nh", attention, states)  # (N, H)
    logits: FloatRows = context @ weights["head.weight"][0] + weights["head.bias"]
    return logits


def _without_silent_columns(weights: Weights, examples: Examples) -> Weights:
    """Return ``weights`` that do not read columns which were 0 throughout training.

    No gradient ever touched what reads them, so they hold the noise they began with: a source that appears later
    (flows, a policy year) would be answered with that noise.
    """
    is_silent = ~examples.inputs.sequence[examples.sequence_ends].any(axis=0)  # (F,)
    first = np.where(is_silent, np.float32(0), weights["lstm.weight_ih_l0"])  # (4 H, F)
    return {**weights, "lstm.weight_ih_l0": first.astype(np.float32)}


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


def _sizes(weights: Weights) -> tuple[int, int, int]:
    """Return input size, hidden size and number of layers."""
    gates, input_size = weights["lstm.weight_ih_l0"].shape
    return input_size, gates // 4, sum(name.startswith("lstm.weight_ih_l") for name in weights)


def _expected_shapes(input_size: int, size: int, num_layers: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a StockLSTM of these sizes."""
    shapes: dict[str, tuple[int, ...]] = {
        "attention.weight": (size, size),
        "attention.bias": (size,),
        "attention_score.weight": (1, size),
        "head.weight": (1, size),
        "head.bias": (1,),
    }
    for layer in range(num_layers):
        shapes[f"lstm.weight_ih_l{layer}"] = (4 * size, size if layer else input_size)
        shapes[f"lstm.weight_hh_l{layer}"] = (4 * size, size)
        shapes[f"lstm.bias_ih_l{layer}"] = shapes[f"lstm.bias_hh_l{layer}"] = (4 * size,)
    return shapes


def _require_sound(weights: Weights, where: str) -> None:
    """Refuse weights that are not those of a StockLSTM, or that are not numbers."""
    if "lstm.weight_ih_l0" not in weights or weights["lstm.weight_ih_l0"].ndim != 2:
        raise _refused(where, f"has no weights of an LSTM, only {sorted(weights)[:5]}")
    expected = _expected_shapes(*_sizes(weights))
    if wrong := sorted(
        name
        for name in expected.keys() | weights.keys()
        if name not in weights or weights[name].shape != expected.get(name) or weights[name].dtype != np.float32
    ):
        raise _refused(where, f"has weights that are missing, unknown or of another shape: {wrong[:5]}")
    if broken := sorted(name for name, weight in weights.items() if not np.isfinite(weight).all()):
        raise _refused(where, f"has weights that are NaN or infinite: {broken[:5]}")


def _refused(where: str, what: str) -> ModelRefused:
    """Return the error for a file or network that cannot be used."""
    return ModelRefused(f"{where} {what}", fix="promote another with `kstock-batch models promote VERSION`, or retrain")
