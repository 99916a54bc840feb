"""Explaining one window: attention and contributions are the network's own, and nothing of the logit is left over."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from kstock_batch.features.windows import gather
from kstock_batch.learners.lstm import LstmMember, forward
from kstock_batch.learners.lstm_explain import TOLERANCE, _Pass, explain_window
from kstock_batch.learners.lstm_network import StockLSTM
from kstock_batch.market.contract import FEATURE_NAMES
from test_inputs import problem

SIGNAL = FEATURE_NAMES.index("return_3m_pct")


@pytest.fixture(scope="module")
def planted():
    return problem(signal=2.0)


@pytest.fixture(scope="module")
def member(planted):
    return LstmMember.fit(planted.examples, epochs=5, seed=1, threads=2, stop_early=False)


@pytest.fixture(scope="module")
def windows(planted):
    return gather(planted.examples.inputs.sequence, planted.later_ends[::40])


def steep(member, times):
    """The member with weights so large that its gates saturate: nothing is nearly linear any more."""
    return replace(member, weights={name: np.float32(times) * weight for name, weight in member.weights.items()})


def torch_network(member):
    network = StockLSTM().double().eval()
    network.load_state_dict({name: torch.from_numpy(weight).double() for name, weight in member.weights.items()})
    return network


@pytest.mark.parametrize("times", [1.0, 2.0])
def test_contributions_add_up_to_what_the_window_changes(member, windows, times):
    for window in windows[::4]:
        found = explain_window(steep(member, times), window)
        assert found.contributions.sum() == pytest.approx(found.logit - found.baseline_logit, abs=TOLERANCE)
        assert abs(found.remainder) <= TOLERANCE


def test_the_logits_are_those_the_member_predicts_from(member, windows):
    found = explain_window(member, windows[0])
    expected = forward(
        member.weights, member.scaler.apply(np.stack([windows[0], np.tile(member.scaler.mean, (20, 1))]))
    )
    assert [found.logit, found.baseline_logit] == pytest.approx(expected.tolist(), abs=1e-5)


def test_the_gradient_by_hand_is_that_of_autograd(member, windows):
    for steepness in (1.0, 3.0):
        network = torch_network(steep(member, steepness))
        scaled = torch.from_numpy(member.scaler.apply(windows)).double().requires_grad_()
        logits = network(scaled)
        (expected,) = torch.autograd.grad(logits.sum(), scaled)
        run = _Pass(steep(member, steepness).weights, scaled.detach().numpy())
        np.testing.assert_allclose(run.logits, logits.detach().numpy(), atol=1e-10)
        np.testing.assert_allclose(run.input_gradient(), expected.numpy(), atol=1e-10)


def test_attention_is_the_networks(member, windows):
    network = torch_network(member)
    with torch.inference_mode():
        states, _ = network.lstm(torch.from_numpy(member.scaler.apply(windows[:1])).double())
        scores = network.attention_score(torch.tanh(network.attention(states)))
    found = explain_window(member, windows[0]).attention
    np.testing.assert_allclose(found, torch.softmax(scores, dim=1)[0, :, 0].numpy(), atol=1e-10)
    assert found.shape == (20,)
    assert found.sum() == pytest.approx(1)


def test_the_planted_column_contributes_most(member, windows):
    by_column = sum(abs(explain_window(member, window).contributions).sum(axis=0) for window in windows)
    assert by_column.shape == (30,)
    assert by_column.argmax() == SIGNAL


def test_a_constant_column_and_the_mean_contribute_exactly_nothing(member, windows):
    constant = np.flatnonzero(member.scaler.std == 0)
    changed = windows[0].copy()
    changed[:, constant] = 0.3
    found = explain_window(member, changed)
    assert (found.contributions[:, constant] == 0).all()
    assert len(constant) == 5
    mean = explain_window(member, np.tile(member.scaler.mean, (20, 1)))
    assert (mean.contributions == 0).all()
    assert mean.logit == mean.baseline_logit


def test_explaining_never_imports_torch():
    asked = "import sys, kstock_batch.learners.lstm_explain; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
