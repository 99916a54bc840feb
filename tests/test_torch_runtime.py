"""Devices: the one asked for or a sentence, and the same member within tolerance."""

import numpy as np
import pytest
import torch

from kstock_batch.errors import ConfigError
from kstock_batch.learners import torch_runtime
from kstock_batch.learners.lstm import LstmMember
from kstock_batch.learners.torch_runtime import find_device
from test_inputs import problem

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no cuda device here")


@pytest.fixture
def machine_with(monkeypatch):
    def having(*, cuda, mps):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return having


@pytest.mark.parametrize(("cuda", "mps", "found"), [(True, True, "cuda"), (False, True, "cpu"), (False, False, "cpu")])
def test_auto_is_cuda_where_there_is_one_and_never_mps(machine_with, cuda, mps, found):
    machine_with(cuda=cuda, mps=mps)
    assert find_device("auto").type == found
    assert find_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_by_name_is_that_device_or_a_sentence(machine_with, name):
    machine_with(cuda=True, mps=True)
    assert find_device(name).type == name
    machine_with(cuda=False, mps=False)
    with pytest.raises(
        ConfigError, match=rf"device '{name}' was asked for, but torch .* finds none .*\n.*device 'auto'"
    ):
        LstmMember.fit(problem(1.0, 3).examples, epochs=1, seed=1, threads=1, device=name)


def test_an_unknown_device_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"device 'gpu' is not one .*\n.*\['cpu', 'auto', 'cuda', 'mps'\]"):
        find_device("gpu")


def test_every_thread_computes_on_one_core():
    before = torch.get_num_threads()
    with torch_runtime.workers(2) as pool:
        assert set(pool.map(lambda _: torch.get_num_threads(), range(8))) == {torch.get_num_threads()} == {1}
    assert torch.get_num_threads() == before


@pytest.mark.gpu
@needs_cuda
def test_cuda_and_processor_train_the_same_member_within_tolerance():
    planted = problem(signal=2.0)
    inputs, ends = planted.examples.inputs, planted.later_ends
    here, there = (
        LstmMember.fit(planted.examples, epochs=2, seed=1, threads=1, device=device).predict(inputs, ends)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there, here, atol=5e-3)
