"""The LSTM's weights under the names of torch's state dict: what sizes they have, and the refusal of what is none.

Python 3.9 syntax and numpy only, because the bot reads them from its file (``lstm_checkpoint.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import FloatRows
from kstock_batch.learners.lstm_scaler import Scaler

Weights = Mapping[str, FloatRows]

_BACKWARDS = "_reverse"


def sizes(weights: Weights) -> tuple[int, int, int]:
    """Return input size, hidden size and number of layers."""
    gates, input_size = weights["lstm.weight_ih_l0"].shape
    layers = {name.removesuffix(_BACKWARDS) for name in weights if name.startswith("lstm.weight_ih_l")}
    return input_size, gates // 4, len(layers)


def is_bidirectional(weights: Weights) -> bool:
    """Return whether the layers read a window from its end too."""
    return f"lstm.weight_ih_l0{_BACKWARDS}" in weights


def require_sound(weights: Weights, where: str) -> None:
    """Refuse weights that are not those of a StockLSTM, or that are not numbers."""
    if "lstm.weight_ih_l0" not in weights or weights["lstm.weight_ih_l0"].ndim != 2:
        raise refused(where, f"has no weights of an LSTM, only {sorted(weights)[:5]}")
    expected = _expected_shapes(*sizes(weights), both_ways=is_bidirectional(weights))
    if wrong := sorted(
        name
        for name in expected.keys() | weights.keys()
        if name not in weights or weights[name].shape != expected.get(name) or weights[name].dtype != np.float32
    ):
        raise refused(where, f"has weights that are missing, unknown or of another shape: {wrong[:5]}")
    if broken := sorted(name for name, weight in weights.items() if not np.isfinite(weight).all()):
        raise refused(where, f"has weights that are NaN or infinite: {broken[:5]}")


def require_scaler(scaler: Scaler, input_size: int, where: str) -> None:
    """Refuse a scale that is not one of the network's columns."""
    for name, values in (("mean", scaler.mean), ("std", scaler.std)):
        if values.shape != (input_size,) or values.dtype != np.float32:
            raise refused(where, f"has a scaler {name} of shape {values.shape}, {values.dtype}; it reads {input_size}")
        if not np.isfinite(values).all() or (name == "std" and (values < 0).any()):
            raise refused(where, f"has a scaler {name} that is NaN, infinite or negative")


def refused(where: str, what: str) -> ModelRefused:
    """Return the error for a file or network that cannot be used."""
    return ModelRefused(f"{where} {what}", fix="promote another with `kstock-batch models promote VERSION`, or retrain")


def _expected_shapes(input_size: int, size: int, num_layers: int, *, both_ways: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of each weight of a StockLSTM of these sizes."""
    directions = ("", _BACKWARDS) if both_ways else ("",)
    width = size * len(directions)
    shapes: dict[str, tuple[int, ...]] = {
        "attention.weight": (width, width),
        "attention.bias": (width,),
        "attention_score.weight": (1, width),
        "head.weight": (1, width),
        "head.bias": (1,),
    }
    for layer in range(num_layers):
        for direction in directions:
            of_layer = f"l{layer}{direction}"
            shapes[f"lstm.weight_ih_{of_layer}"] = (4 * size, width if layer else input_size)
            shapes[f"lstm.weight_hh_{of_layer}"] = (4 * size, size)
            shapes[f"lstm.bias_ih_{of_layer}"] = shapes[f"lstm.bias_hh_{of_layer}"] = (4 * size,)
    return shapes
