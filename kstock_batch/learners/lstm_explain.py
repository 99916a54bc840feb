"""Why the LSTM said what it said of one window: where it looked, and what each value of each bar contributed.

Integrated gradients (Sundararajan et al., 2017): walk from the mean of training to the window along a straight line
and sum the gradient times the step. What the values contribute then adds up to the difference the window makes.

The gradient is worked out here by hand, in numpy: importing torch would take longer than explaining a hundred windows.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kstock_batch.features.windows import FloatRows
from kstock_batch.learners.lstm import LstmMember
from kstock_batch.learners.lstm_weights import Weights, sizes

Floats = NDArray[np.float64]

TOLERANCE = 1e-4  # log-odds that may be missing from the sum
_NODES = (16, 64, 256, 1024)  # Gauss-Legendre nodes on the path: more where the network turns sharply
_AT_ONCE = 16  # nodes: products so small stay on one core, and waking the others takes longer than the product


@dataclass(frozen=True)
class WindowExplanation:
    """One window taken apart; ``contributions`` add up to ``logit - baseline_logit`` within ``TOLERANCE``.

    Attributes
    ----------
    logit : log-odds of the window, uncalibrated
    baseline_logit : log-odds of a window whose every value is the mean of training
    attention : (T,) weights that add up to 1, oldest bar first
    contributions : (T, F) in log-odds; a value at the mean of training, or in a column that was constant then, has 0
    """

    logit: float
    baseline_logit: float
    attention: Floats
    contributions: Floats

    @property
    def remainder(self) -> float:
        """What the contributions leave unexplained, in log-odds."""
        return self.logit - self.baseline_logit - float(self.contributions.sum())


def explain_window(member: LstmMember, window: FloatRows) -> WindowExplanation:
    """Return why ``member`` gives ``window`` (T, F), unscaled and oldest bar first, the logit it gives."""
    scaled = member.scaler.apply(window[None]).astype(np.float64)  # (1, T, F)
    ends = _Pass(member.weights, np.concatenate([scaled, np.zeros_like(scaled)]))
    logit, baseline_logit = (float(value) for value in ends.logits)
    for n_nodes in _NODES:
        contributions: Floats = scaled[0] * _mean_gradient(member.weights, scaled, n_nodes)
        found = WindowExplanation(logit, baseline_logit, ends.attention[:, 0], contributions)
        if abs(found.remainder) <= TOLERANCE:
            break
    return found


def _mean_gradient(weights: Weights, scaled: Floats, n_nodes: int) -> Floats:
    """Return the mean derivative of the logit (T, F) on the way from 0 to ``scaled`` (1, T, F)."""
    nodes, shares = np.polynomial.legendre.leggauss(n_nodes)  # on -1 … 1
    total: Floats = np.zeros_like(scaled[0])
    for start in range(0, n_nodes, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        run = _Pass(weights, scaled * ((nodes[part] + 1) / 2)[:, None, None])
        total += np.einsum("n,ntf->tf", shares[part] / 2, run.input_gradient())
    return total


@dataclass(frozen=True)
class _Layer:
    """What one layer computed: all (T, N, H), the states one longer because they begin with zeros."""

    entry: Floats
    keep: Floats
    candidate: Floats
    exit: Floats
    cells: Floats
    states: Floats


class _Pass:
    """The network run on scaled windows (N, T, F), with all it takes to go back."""

    def __init__(self, weights: Weights, windows: Floats) -> None:
        self.weights = {name: weight.astype(np.float64) for name, weight in weights.items()}
        self.layers: list[_Layer] = []
        below = windows.swapaxes(0, 1)  # (T, N, F)
        for number in range(sizes(weights)[2]):
            self.layers.append(self._layer(number, below))
            below = self.layers[-1].states[1:]
        self.states = below  # (T, N, H)

    @cached_property
    def hidden(self) -> Floats:
        """What attention sees of each state, (T, N, H)."""
        hidden: Floats = np.tanh(self.states @ self.weights["attention.weight"].T + self.weights["attention.bias"])
        return hidden

    @cached_property
    def attention(self) -> Floats:
        """Weight of each bar, (T, N)."""
        scores = self.hidden @ self.weights["attention_score.weight"][0]
        raised: Floats = np.exp(scores - scores.max(axis=0))
        attention: Floats = raised / raised.sum(axis=0)
        return attention

    @property
    def logits(self) -> Floats:
        """Log-odds, (N,)."""
        context = np.einsum("tn,tnh->nh", self.attention, self.states)
        logits: Floats = context @ self.weights["head.weight"][0] + self.weights["head.bias"]
        return logits

    def input_gradient(self) -> Floats:
        """Return the derivative of each logit by its window, (N, T, F)."""
        head, score = self.weights["head.weight"][0], self.weights["attention_score.weight"][0]
        worth = self.states @ head  # (T, N): what the logit would be, were all attention here
        by_score = self.attention * (worth - (self.attention * worth).sum(axis=0))
        by_hidden = by_score[..., None] * score * (1 - self.hidden**2)
        gradient = self.attention[..., None] * head + by_hidden @ self.weights["attention.weight"]  # (T, N, H)
        for number in reversed(range(len(self.layers))):
            gradient = self._back(number, gradient)
        by_window: Floats = gradient.swapaxes(0, 1)
        return by_window

    def _layer(self, number: int, below: Floats) -> _Layer:
        """Run one layer over ``below`` (T, N, D)."""
        w_in, w_hidden = (self.weights[f"lstm.weight_{of}_l{number}"] for of in ("ih", "hh"))
        bias = self.weights[f"lstm.bias_ih_l{number}"] + self.weights[f"lstm.bias_hh_l{number}"]
        length, n = below.shape[:2]
        gates = below @ w_in.T + bias  # (T, N, 4H), as i, f, g, o
        states, cells = np.zeros((2, length + 1, n, w_hidden.shape[1]))
        for t, gate in enumerate(gates):
            gate += states[t] @ w_hidden.T
            entry, keep, candidate, exit_ = np.split(gate, 4, axis=1)
            for gated in (entry, keep, exit_):
                gated[:] = 0.5 * (np.tanh(0.5 * gated) + 1)
            np.tanh(candidate, out=candidate)
            cells[t + 1] = keep * cells[t] + entry * candidate
            states[t + 1] = exit_ * np.tanh(cells[t + 1])
        entry, keep, candidate, exit_ = np.split(gates, 4, axis=2)
        return _Layer(entry, keep, candidate, exit_, cells, states)

    def _back(self, number: int, gradient: Floats) -> Floats:
        """Return the derivative by what the layer read (T, N, D), given that by its states (T, N, H)."""
        layer, w_hidden = self.layers[number], self.weights[f"lstm.weight_hh_l{number}"]
        by_gates = np.empty((*gradient.shape[:2], len(w_hidden)))  # (T, N, 4H), before their sigmoid or tanh
        by_state = by_cell = np.zeros(gradient.shape[1:])
        for t in reversed(range(len(gradient))):
            entry, keep, candidate, exit_ = layer.entry[t], layer.keep[t], layer.candidate[t], layer.exit[t]
            shown = np.tanh(layer.cells[t + 1])
            by_state = by_state + gradient[t]
            by_cell = by_cell + by_state * exit_ * (1 - shown**2)
            parts = (
                by_cell * candidate * entry * (1 - entry),
                by_cell * layer.cells[t] * keep * (1 - keep),
                by_cell * entry * (1 - candidate**2),
                by_state * shown * exit_ * (1 - exit_),
            )
            by_gates[t] = np.concatenate(parts, axis=1)
            by_state, by_cell = by_gates[t] @ w_hidden, by_cell * keep
        by_below: Floats = by_gates @ self.weights[f"lstm.weight_ih_l{number}"]
        return by_below
