"""The LSTM's network in torch: what is trained, and what the bot loads from its checkpoint.

Python 3.9 syntax, numpy and torch only, because the bot asks it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from kstock_batch.market.contract import N_FEATURES, WINDOW

_DRAWS = 1 << 16  # dropout compares 16 bits, because torch's own draws took a sixth of a step


class StockLSTM(nn.Module):
    """Two LSTM layers, additive attention over the sessions, one logit."""

    def __init__(
        self,
        input_size: int = N_FEATURES,
        hidden_size: int = 64,
        num_layers: int = 2,
        dropout: float = 0.2,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        between = dropout if num_layers > 1 else 0.0
        self.lstm = nn.LSTM(
            input_size, hidden_size, num_layers, batch_first=True, dropout=between, bidirectional=bidirectional
        )
        self.n_directions = 2 if bidirectional else 1
        self.width = hidden_size * self.n_directions
        self.attention = nn.Linear(self.width, self.width)
        self.attention_score = nn.Linear(self.width, 1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.width, 1)

    def forward(self, windows: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Return logits of shape (N,) for ``windows`` (N, T, F); ``masks`` replace torch's own dropout."""
        if masks is None:
            states = self.lstm(windows)[0].transpose(0, 1)  # (T, N, H)
        else:
            states = self._states(windows.transpose(0, 1), masks)
        scores = self.attention_score(torch.tanh(self.attention(states)))  # (T, N, 1)
        context = (torch.softmax(scores, dim=0) * states).sum(dim=0)  # (N, H)
        context = self.dropout(context) if masks is None else context * masks[-1]
        logits: Tensor = self.head(context).squeeze(1)
        return logits

    def draw_masks(self, n_windows: int, random: np.random.Generator, length: int = WINDOW) -> tuple[Tensor, ...]:
        """Return what dropout multiplies by: (T, N, H) after each layer but the last, and (N, H) before the head.

        The caller's generator, not torch's: shards of a batch are computed at once, and torch has one generator
        for all of them, so that the numbers a shard gets would depend on which one came first.
        """
        between = [(length, n_windows, self.width)] * (self.lstm.num_layers - 1)
        return tuple(_mask(shape, self.dropout.p, random) for shape in (*between, (n_windows, self.width)))

    def _states(self, below: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Return the hidden states (T, N, H) of the last layer over ``below`` (T, N, F)."""
        lstm = self.lstm
        start = below.new_zeros(self.n_directions, below.shape[1], lstm.hidden_size)
        last = lstm.num_layers - 1
        for layer in range(lstm.num_layers):
            directions = lstm.all_weights[layer * self.n_directions :][: self.n_directions]
            weights = tuple(chain.from_iterable(directions))
            # torch.lstm(input, state, weights, has_biases, num_layers, dropout, train, bidirectional, batch_first)
            below, _, _ = torch.lstm(
                below, (start, start), weights, True, 1, 0.0, self.training, lstm.bidirectional, False
            )
            below = below if layer == last else below * masks[layer]
        return below


def _mask(shape: tuple[int, ...], rate: float, random: np.random.Generator) -> Tensor:
    """Return float32 of ``shape``: 0 with probability ``rate``, else what keeps the mean at 1."""
    n, kept = int(np.prod(shape)), round(_DRAWS * (1 - rate))
    draws = random.integers(0, 1 << 64, size=-(-n // 4), dtype=np.uint64).view(np.uint16)[:n]
    return torch.from_numpy(draws < kept).view(shape) * (_DRAWS / kept)
