"""The bot's LSTM file (``models/lstm_stock.pt``): weights and scale as tensors and numbers that torch loads safely.

torch is imported only when a file is written or read. Where it is absent the rest of the package goes on.
Python 3.9 syntax, numpy and torch only, because the bot writes and reads the file too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

# The error alone: torch raises pickle's own for a file it will not unpickle, and no other name of it is used here.
from pickle import UnpicklingError
from struct import error as StructError
from typing import TYPE_CHECKING, Any, Protocol
from zipfile import BadZipFile, ZipFile

import numpy as np

from kstock_batch.errors import ModelRefused
from kstock_batch.files import write_atomically
from kstock_batch.learners.lstm_scaler import Scaler
from kstock_batch.learners.lstm_weights import Weights, require_scaler, require_sound, sizes

if TYPE_CHECKING:
    from types import ModuleType

FILE_NAME = "lstm_stock.pt"

_SIZES = ("input_size", "hidden_size", "num_layers")
_KEYS = {"state_dict", "scaler_mean", "scaler_std", *_SIZES}
# What reading a file can end in that torch.save did not write: each of them came up in files with changed bytes.
_UNREADABLE = (
    *(OSError, BadZipFile, EOFError, RuntimeError, ValueError, LookupError),
    *(TypeError, AttributeError, AssertionError, StructError),
)


class Network(Protocol):
    """What the file holds; an ``LstmMember`` is one, whose facts stay in the model version it came from."""

    @property
    def weights(self) -> Weights:
        """Name of torch's state dict -> float32."""

    @property
    def scaler(self) -> Scaler:
        """The scale on which the network reads its columns."""


@dataclass(frozen=True)
class Checkpoint:
    """A network as a file says it is: sound, and on the scale it reads."""

    weights: Weights
    scaler: Scaler

    @classmethod
    def sound(cls, weights: Weights, scaler: Scaler, where: str) -> Checkpoint:
        """Return the network, or refuse what is none, naming ``where`` it came from."""
        require_sound(weights, where)
        require_scaler(scaler, sizes(weights)[0], where)
        return cls(weights, scaler)


def write_checkpoint(network: Network, path: Path) -> None:
    """Write ``network`` to ``path`` whole or not at all.

    The standard deviation of a column that was constant in training is written as infinity: every reader divides by
    it, and then gets the 0 such a column must be. Dividing by 0 would be NaN.
    """
    torch = _torch(path)
    std = np.where(network.scaler.std > 0, network.scaler.std, np.float32(np.inf))
    content = {
        "state_dict": {name: torch.from_numpy(weight.copy()) for name, weight in network.weights.items()},
        "scaler_mean": torch.from_numpy(network.scaler.mean.copy()),
        "scaler_std": torch.from_numpy(std),
        **_told_sizes(network.weights),
    }
    buffer = BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the network that ``write_checkpoint`` wrote: the same predictions."""
    content = _content(path)
    state = content["state_dict"]
    named = {"scaler_mean": content["scaler_mean"], "scaler_std": content["scaler_std"]}
    named.update(state if isinstance(state, Mapping) else {"state_dict": state})
    arrays = {str(name): _array(path, str(name), value) for name, value in named.items()}
    mean, std = arrays.pop("scaler_mean"), arrays.pop("scaler_std")
    scaler = Scaler(mean, np.where(np.isposinf(std), np.zeros_like(std), std))
    found = Checkpoint.sound(arrays, scaler, str(path))
    told = {name: content[name] for name in _SIZES}
    if told != _told_sizes(found.weights):
        raise _refused(path, f"says {told}, its weights say {sizes(found.weights)}")
    return found


def _told_sizes(weights: Weights) -> dict[str, int]:
    """Return the sizes of the network under the names of the file."""
    return dict(zip(_SIZES, sizes(weights)))  # noqa: B905  # Python 3.9 has no strict


def _array(path: Path, name: str, value: Any) -> Any:
    """Return the numbers of a dense tensor, or refuse what is none."""
    try:
        return value.detach().cpu().numpy().copy()
    except (AttributeError, TypeError, RuntimeError) as error:  # no tensor; one that numpy cannot hold, or none on disk
        raise _refused(path, f"holds under {name!r} a {type(value).__name__} that is no dense tensor") from error


def _content(path: Path) -> Mapping[str, Any]:
    """Return the dict in the file, with exactly the keys it must have; nothing in it is executed."""
    torch = _torch(path)
    try:
        content = torch.load(BytesIO(_undamaged(path)), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise _refused(path, "holds more than tensors and plain numbers, so it is not unpickled") from error
    except _UNREADABLE as error:
        said = str(error).splitlines()
        raise _refused(path, f"cannot be read: {said[0] if said else type(error).__name__}") from error
    if not isinstance(content, Mapping) or content.keys() != _KEYS:
        found = sorted(map(str, content))[:8] if isinstance(content, Mapping) else type(content).__name__
        raise _refused(path, f"is no checkpoint of this LSTM: it needs {sorted(_KEYS)}, it has {found}")
    return content


def _undamaged(path: Path) -> bytes:
    """Return the bytes of the file, a zip whose checksums hold: torch itself would read a flipped bit as a weight."""
    data = path.read_bytes()
    with ZipFile(BytesIO(data)) as file:
        if any(entry.compress_type for entry in file.infolist()):  # a small file could unpack to any size
            raise _refused(path, "is compressed, which torch never does")
        if damaged := file.testzip():
            raise _refused(path, f"is damaged: {damaged} in it is not what was written")
    return data


def _torch(path: Path) -> ModuleType:
    """Return torch, or say that the file needs it."""
    try:
        import torch
    except ImportError as error:
        raise ModelRefused(
            f"{path} needs torch, which is not installed here", fix="install torch, or go on with the two tree models"
        ) from error
    return torch


def _refused(path: Path, what: str) -> ModelRefused:
    """Return the error for a file that is not what ``write_checkpoint`` writes."""
    return ModelRefused(
        f"{path} {what}",
        fix="write it anew from a trained version: tensors and numbers only, arrays by torch.from_numpy",
    )
