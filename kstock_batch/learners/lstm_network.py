"""The LSTM's network in torch: what is trained, and what the bot loads from its checkpoint."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kstock_batch.market.contract import N_FEATURES, WINDOW

_DRAWS = 1 << 16  # dropout compares 16 bits, because torch's own draws took a sixth of a step


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

    def draw_masks(self, n_windows: int, random: np.random.Generator) -> tuple[Tensor, ...]:
        """Return what dropout multiplies by: (T, N, H) after each layer but the last, and (N, H) before the head.

        The caller's generator, not torch's: shards of a batch are computed at once, and torch has one generator
        for all of them, so that the numbers a shard gets would depend on which one came first.
        """
        between = [(WINDOW, n_windows, self.lstm.hidden_size)] * (self.lstm.num_layers - 1)
        return tuple(_mask(shape, self.dropout.p, random) for shape in (*between, (n_windows, self.lstm.hidden_size)))

    def _states(self, below: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Return the hidden states (T, N, H) of the last layer over ``below`` (T, N, F)."""
        start = below.new_zeros(1, below.shape[1], self.lstm.hidden_size)
        last = self.lstm.num_layers - 1
        for layer, weights in enumerate(self.lstm.all_weights):
            # torch.lstm(input, state, weights, has_biases, num_layers, dropout, train, bidirectional, batch_first)
            below, _, _ = torch.lstm(below, (start, start), tuple(weights), True, 1, 0.0, self.training, False, False)
            below = below if layer == last else below * masks[layer]
        return below


def _mask(shape: tuple[int, ...], rate: float, random: np.random.Generator) -> Tensor:
    """Return float32 of ``shape``: 0 with probability ``rate``, else what keeps the mean at 1."""
    n, kept = int(np.prod(shape)), round(_DRAWS * (1 - rate))
    draws = random.integers(0, 1 << 64, size=-(-n // 4), dtype=np.uint64).view(np.uint16)[:n]
    return torch.from_numpy(draws < kept).view(shape) * (_DRAWS / kept)
