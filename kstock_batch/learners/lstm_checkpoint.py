"""The bot's LSTM file (``models/lstm_stock.pt``): the member as tensors and plain numbers that torch loads safely.

torch is imported only when a file is written or read. Where it is absent the rest of the package goes on.
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

# The error alone: torch raises pickle's own for a file it will not unpickle, and no other name of it is used here.
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np

from kstock_batch.errors import ModelRefused
from kstock_batch.files import write_atomically
from kstock_batch.learners.lstm import LstmMember, sizes
from kstock_batch.learners.lstm_scaler import Scaler

if TYPE_CHECKING:
    from types import ModuleType

FILE_NAME = "lstm_stock.pt"

_SIZES = ("input_size", "hidden_size", "num_layers")
_KEYS = {"state_dict", "scaler_mean", "scaler_std", *_SIZES}


def write_checkpoint(member: LstmMember, path: Path) -> None:
    """Write ``member`` to ``path`` whole or not at all; its facts stay in the model version it came from.

    The standard deviation of a column that was constant in training is written as infinity: every reader divides by
    it, and then gets the 0 such a column must be. Dividing by 0 would be NaN.
    """
    torch = _torch(path)
    std = np.where(member.scaler.std > 0, member.scaler.std, np.float32(np.inf))
    content = {
        "state_dict": {name: torch.from_numpy(weight.copy()) for name, weight in member.weights.items()},
        "scaler_mean": torch.from_numpy(member.scaler.mean.copy()),
        "scaler_std": torch.from_numpy(std),
        **dict(zip(_SIZES, sizes(member.weights), strict=True)),
    }
    buffer = BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def read_checkpoint(path: Path) -> LstmMember:
    """Return the member that ``write_checkpoint`` wrote: the same predictions, no facts."""
    content = _content(path)
    state = content["state_dict"]
    named = {"scaler_mean": content["scaler_mean"], "scaler_std": content["scaler_std"]}
    named |= state if isinstance(state, Mapping) else {"state_dict": state}
    if odd := sorted(str(name) for name, value in named.items() if not hasattr(value, "numpy")):
        raise _refused(path, f"holds values that are no tensors: {odd[:5]}")
    arrays = {str(name): tensor.detach().cpu().numpy().copy() for name, tensor in named.items()}
    mean, std = arrays.pop("scaler_mean"), arrays.pop("scaler_std")
    scaler = Scaler(mean, np.where(np.isposinf(std), np.zeros_like(std), std))
    member = LstmMember.sound(arrays, scaler, {}, str(path))
    told = tuple(content[name] for name in _SIZES)
    if told != sizes(member.weights):
        raise _refused(path, f"says {dict(zip(_SIZES, told, strict=True))}, its weights say {sizes(member.weights)}")
    return member


def _content(path: Path) -> Mapping[str, Any]:
    """Return the dict in the file, with exactly the keys it must have; nothing in it is executed."""
    torch = _torch(path)
    try:
        content = torch.load(BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise _refused(path, "holds more than tensors and plain numbers, so it is not unpickled") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:  # torch's, for a torn file
        raise _refused(
            path, f"cannot be read: {str(error).splitlines()[0] if str(error) else 'it is empty'}"
        ) from error
    if not isinstance(content, Mapping) or content.keys() != _KEYS:
        found = sorted(map(str, content))[:8] if isinstance(content, Mapping) else type(content).__name__
        raise _refused(path, f"is no checkpoint of this LSTM: it needs {sorted(_KEYS)}, it has {found}")
    return content


def _torch(path: Path) -> "ModuleType":
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
