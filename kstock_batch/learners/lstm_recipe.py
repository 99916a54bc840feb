"""How the LSTM is trained, by name: apart from the training, so that naming a rate imports no torch.

Python 3.9 syntax only, because the bot trains by a recipe of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from kstock_batch.errors import ConfigError

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class Recipe:
    """How the network is trained; a rate is per step, a patience in epochs without a better validation loss."""

    batch_size: int = 512
    shard_size: int = 64
    learning_rate: float = 1e-3
    warm_up_steps: int = 100
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    lower_rate_patience: int = 1
    stop_patience: int = 3

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Self:
        """Return the recipe with the ``given`` values in place of its own."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted((given or {}).keys() - known):
            raise ConfigError(f"the LSTM has no parameters {unknown}", fix=f"use some of {sorted(known)}")
        return cls(**(given or {}))

    def batch_for(self, n_windows: int) -> int:
        """Return the batch size: smaller for few windows, so that an epoch still has some twenty steps."""
        return min(self.batch_size, max(32, n_windows // 20))
