"""The scale of the LSTM's columns: from the bars of the training windows and from nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from kstock_batch.learners.lstm import LstmMember
from kstock_batch.learners.lstm_sample import split_by_session
from kstock_batch.learners.lstm_scaler import Scaler
from kstock_batch.market.contract import FEATURE_NAMES
from test_inputs import problem

SILENT = FEATURE_NAMES.index("policy_bonus")


@pytest.fixture(scope="module")
def examples():
    return problem(signal=1.0, n_tickers=12).examples


def trained(examples, **options):
    return LstmMember.fit(examples, **{"epochs": 1, "seed": 1, "threads": 1, "stop_early": False} | options)


def with_sequence(examples, sequence):
    return replace(examples, inputs=replace(examples.inputs, sequence=sequence))


def test_mean_and_deviation_are_those_of_the_bars_each_counted_once():
    rng = np.random.default_rng(0)
    rows = rng.normal(3, 2, size=(20_000, 4)).astype(np.float32)
    ends = np.array([19, 25, 25, 15_000])  # rows 0 … 25 and 14981 … 15000; windows overlap, one is twice there
    bars = np.concatenate([rows[:26], rows[14_981:15_001]]).astype(np.float64)
    scaler = Scaler.fit(rows, ends)
    np.testing.assert_allclose(scaler.mean, bars.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scaler.std, bars.std(axis=0), rtol=1e-6)
    assert scaler.mean.dtype == scaler.std.dtype == scaler.scale.dtype == np.float32
    scaled = scaler.apply(rows[None, :26])
    np.testing.assert_allclose(scaled[0], (rows[:26] - bars.mean(axis=0)) / bars.std(axis=0), atol=1e-5)
    assert scaled.dtype == np.float32


def test_a_bar_no_window_holds_says_nothing():
    rows = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    changed = rows.copy()
    changed[[0, 1, 22, 99]] = 1e6
    before, after = (Scaler.fit(of, np.array([21, 60])) for of in (rows, changed))
    assert not np.array_equal(Scaler.fit(changed, np.array([22])).mean, Scaler.fit(rows, np.array([22])).mean)
    np.testing.assert_array_equal(before.mean, after.mean)
    np.testing.assert_array_equal(before.std, after.std)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6])
def test_a_constant_column_has_scale_zero_whatever_rounding_says(constant):
    rows = np.random.default_rng(0).normal(size=(10_000, 2)).astype(np.float32)
    rows[:, 1] = constant
    scaler = Scaler.fit(rows, np.arange(19, 9_000))
    assert scaler.std[1] == scaler.scale[1] == 0 < scaler.scale[0]
    rows[:, 1] = 7
    assert (scaler.apply(rows[None])[..., 1] == 0).all()


def test_later_sessions_do_not_reach_the_scale(examples):
    session = examples.inputs.session[examples.sequence_ends]
    past, _ = split_by_session(session, 0.15)
    last_seen = session[past].max()
    sequence = examples.inputs.sequence.copy()
    sequence[examples.inputs.session > last_seen] = 0.4
    before, after = trained(examples, stop_early=True), trained(with_sequence(examples, sequence), stop_early=True)
    np.testing.assert_array_equal(before.scaler.mean, after.scaler.mean)
    np.testing.assert_array_equal(before.scaler.std, after.scaler.std)
    assert not np.array_equal(before.scaler.mean, trained(with_sequence(examples, sequence)).scaler.mean)


def test_training_is_blind_to_location_and_scale_of_a_column(examples):
    moved = examples.inputs.sequence * np.float32(4) + np.float32(2)  # a power of two: exact but for the shift
    before, after = trained(examples), trained(with_sequence(examples, moved))
    np.testing.assert_allclose(
        before.predict(examples.inputs, examples.sequence_ends),
        after.predict(replace(examples.inputs, sequence=moved), examples.sequence_ends),
        atol=1e-4,
    )


def test_a_column_that_was_constant_in_training_says_nothing_when_it_comes_alive(examples):
    sequence = examples.inputs.sequence.copy()
    sequence[:, SILENT] = 0
    member = trained(with_sequence(examples, sequence))
    alive = sequence.copy()
    alive[:, SILENT] = 0.4
    ends = examples.sequence_ends[:50]
    before = member.predict(replace(examples.inputs, sequence=sequence), ends)
    assert member.predict(replace(examples.inputs, sequence=alive), ends).tolist() == before.tolist()
    assert member.card()["n_constant_columns"] == 6  # policy_bonus, the sector code and the four market-wide columns
