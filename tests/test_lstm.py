import hashlib
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch

from kstock_batch.errors import ModelRefused, NotEnoughHistory
from kstock_batch.features.windows import gather
from kstock_batch.learners.lstm import CHUNK, INPUT_SCALE, LstmMember
from kstock_batch.learners.lstm_training import Epoch, Recipe, Sample, StockLSTM, Trained, split_by_session, train
from kstock_batch.market.contract import FEATURE_NAMES
from test_inputs import problem

SCORE_WITHOUT_TORCH = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from kstock_batch.learners.lstm import LstmMember
inputs = SimpleNamespace(sequence=np.zeros((30, 30), dtype=np.float32))
print(LstmMember.load(Path(sys.argv[1])).predict(inputs, np.array([25]))[0], "torch" in sys.modules)
"""


def fit(examples, epochs=1, **options):
    return LstmMember.fit(examples, **{"epochs": epochs, "seed": 1, "threads": 1, "stop_early": False} | options)


def few(examples, n=200):
    """The same inputs, ``n`` windows to learn from."""
    chosen = np.linspace(0, len(examples.sequence_ends) - 1, n).astype(int)
    ends, label = examples.sequence_ends[chosen], examples.sequence_label[chosen]
    return replace(examples, sequence_ends=ends, sequence_label=label)


def digest(member):
    return hashlib.sha256(safetensors.numpy.save(dict(member.weights))).hexdigest()


@pytest.fixture(scope="module")
def planted():
    return problem(signal=2.0)


@pytest.fixture(scope="module")
def member(planted):
    """Validated on the last sessions; weights of the best of at most four epochs."""
    return fit(planted.examples, epochs=4, stop_early=True)


@pytest.fixture(scope="module")
def small(planted):
    return few(planted.examples)


def test_a_planted_signal_is_found_in_later_sessions(planted, member):
    assert planted.auc(member.predict(planted.examples.inputs, planted.later_ends)) > 0.6


def test_noise_is_not_predicted():
    noise = problem(signal=0.0)
    p = fit(noise.examples, epochs=2).predict(noise.examples.inputs, noise.later_ends)
    assert abs(noise.auc(p) - 0.5) < 0.06


def test_scoring_in_numpy_equals_torch(planted, member):
    ends = planted.later_ends
    network = StockLSTM()
    network.load_state_dict({name: torch.from_numpy(weight) for name, weight in member.weights.items()})
    network.eval()
    windows = gather(planted.examples.inputs.sequence, ends) * np.float32(INPUT_SCALE)
    with torch.inference_mode():
        expected = torch.sigmoid(network(torch.from_numpy(windows))).numpy()
    p = member.predict(planted.examples.inputs, ends)
    np.testing.assert_allclose(p, expected, atol=1e-5)
    assert p.std() > 0.05
    assert p.dtype == np.float64


def test_windows_scored_in_batches_equal_windows_scored_one_by_one(planted, member):
    inputs, ends = planted.examples.inputs, planted.later_ends[: CHUNK + 5]
    one_by_one = [member.predict(inputs, ends[i : i + 1])[0] for i in (*range(5), *range(CHUNK - 3, CHUNK + 5))]
    together = member.predict(inputs, ends)
    np.testing.assert_allclose(together[[*range(5), *range(CHUNK - 3, CHUNK + 5)]], one_by_one, atol=1e-6)


def test_a_prediction_depends_on_the_last_twenty_bars_alone(planted, member):
    inputs, end = planted.examples.inputs, planted.later_ends[:1]

    def with_row(offset):
        changed = inputs.sequence.copy()
        changed[end[0] + offset] = 0.5
        return member.predict(replace(inputs, sequence=changed), end)[0]

    before = member.predict(inputs, end)[0]
    assert with_row(-20) == with_row(1) == before
    assert with_row(-19) != before and with_row(0) != before


def test_what_was_saved_predicts_the_same_after_loading(planted, member, tmp_path):
    member.save(tmp_path)
    loaded = LstmMember.load(tmp_path)
    inputs, ends = planted.examples.inputs, planted.later_ends
    np.testing.assert_array_equal(loaded.predict(inputs, ends), member.predict(inputs, ends))
    assert loaded.card() == member.card()
    assert loaded.learning_rates == member.learning_rates


def test_the_same_data_and_seed_give_the_same_bytes(small, tmp_path):
    for folder in (tmp_path / "one", tmp_path / "two"):
        fit(small, epochs=2).save(folder)
    assert (tmp_path / "one/lstm.safetensors").read_bytes() == (tmp_path / "two/lstm.safetensors").read_bytes()


def test_another_seed_gives_another_model(small):
    assert digest(fit(small, seed=1)) != digest(fit(small, seed=2))


def test_training_leaves_torchs_seed_and_threads_as_they_were(small):
    torch.manual_seed(5)
    expected, threads = torch.rand(1), torch.get_num_threads()
    torch.manual_seed(5)
    fit(small, threads=threads + 1)
    assert torch.rand(1) == expected
    assert torch.get_num_threads() == threads


def test_scoring_never_imports_torch(member, tmp_path):
    member.save(tmp_path)
    ran = subprocess.run([sys.executable, "-c", SCORE_WITHOUT_TORCH, tmp_path], capture_output=True, text=True)
    assert ran.stderr == ""
    probability, torch_imported = ran.stdout.split()
    assert 0 < float(probability) < 1
    assert torch_imported == "False"


def test_no_windows_give_no_predictions(planted, member):
    assert member.predict(planted.examples.inputs, np.empty(0, dtype=np.int64)).shape == (0,)


def test_other_columns_than_it_learnt_are_refused(planted, member):
    inputs = replace(planted.examples.inputs, sequence=planted.examples.inputs.sequence[:, :29])
    with pytest.raises(ModelRefused, match="the LSTM reads 30 columns, the inputs have 29"):
        member.predict(inputs, planted.later_ends)


@pytest.mark.parametrize(
    ("weight", "value", "reason"),
    [
        ("head.weight", np.full((1, 64), np.nan, dtype=np.float32), "NaN or infinite: \\['head.weight'\\]"),
        ("head.weight", np.zeros((1, 63), dtype=np.float32), "another shape: \\['head.weight'\\]"),
        ("head.weight", np.zeros((1, 64), dtype=np.float64), "another shape: \\['head.weight'\\]"),
        ("lstm.weight_hh_l1", None, "another shape: \\['lstm.weight_hh_l1'\\]"),
        ("lstm.weight_ih_l0", None, "no weights of an LSTM"),
        ("stranger", np.zeros(1, dtype=np.float32), "unknown or of another shape: \\['stranger'\\]"),
    ],
)
def test_unsound_weights_are_refused_naming_file_and_weight(member, tmp_path, weight, value, reason):
    weights = {name: w for name, w in (dict(member.weights) | {weight: value}).items() if w is not None}
    replace(member, weights=weights).save(tmp_path)
    with pytest.raises(ModelRefused, match=rf"lstm\.safetensors has .*{reason}"):
        LstmMember.load(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no model", safetensors.numpy.save({"a": np.zeros(1)})])
def test_a_file_that_is_no_model_is_refused_by_name(content, tmp_path):
    if content is not None:
        (tmp_path / "lstm.safetensors").write_bytes(content)
    with pytest.raises(ModelRefused, match=r"lstm\.safetensors cannot be read"):
        LstmMember.load(tmp_path)


def test_the_card_is_json_and_tells_sizes_and_losses(member):
    card = member.card()
    assert json.loads(json.dumps(card)) == card
    assert (card["input_size"], card["hidden_size"], card["num_layers"]) == (30, 64, 2)
    assert card["n_parameters"] == sum(p.numel() for p in StockLSTM().parameters())
    assert {"train_loss", "validation_loss", "learning_rate"} == card["history"][0].keys()


def test_the_epoch_with_the_least_validation_loss_is_kept(planted, member):
    losses = [epoch["validation_loss"] for epoch in member.facts["history"]]
    assert losses[member.best_epoch - 1] == min(losses)


def test_the_kept_weights_are_those_of_the_best_epoch(planted):
    values = planted.examples.inputs.sequence
    ends, label = planted.examples.sequence_ends[:300], planted.examples.sequence_label[:300]
    contrary = Sample(values, ends, 1 - label)  # the better it learns, the worse it is judged
    options = {"seed": 1, "threads": 1, "recipe": Recipe(learning_rate=0.01)}
    stopped = train(Sample(values, ends, label), contrary, epochs=20, **options)
    assert stopped.best_epoch < len(stopped.epochs) == stopped.best_epoch + stopped.recipe.stop_patience
    rates = [epoch.learning_rate for epoch in stopped.epochs[: stopped.best_epoch]]
    again = train(Sample(values, ends, label), None, epochs=len(rates), learning_rates=rates, **options)
    for name, weight in stopped.weights.items():
        np.testing.assert_array_equal(weight, again.weights[name])
    assert stopped.epochs[-1].learning_rate < stopped.epochs[0].learning_rate


def test_without_early_stop_all_epochs_run_on_all_windows(small):
    refitted = fit(small, epochs=3)
    assert refitted.best_epoch == 3
    assert refitted.card()["n_windows"] == len(small.sequence_ends)
    assert [epoch["validation_loss"] for epoch in refitted.facts["history"]] == [None] * 3


def test_progress_is_told_once_per_epoch(small):
    told = []
    fit(small, epochs=2, on_epoch=lambda *what: told.append(what))
    assert [number for number, _, _ in told] == [1, 2]
    assert all(train_loss > 0 and validation_loss is None for _, train_loss, validation_loss in told)


def test_learning_rates_are_those_of_the_epochs_kept():
    epochs = tuple(Epoch(0.5, 0.5, rate) for rate in (1e-3, 1e-3, 5e-4, 2.5e-4))
    facts = Trained({}, epochs, best_epoch=3, n_windows=9, recipe=Recipe()).facts()
    assert LstmMember({}, INPUT_SCALE, facts).learning_rates == (1e-3, 1e-3, 5e-4)


def test_validation_is_the_last_sessions_and_a_purge_lies_before_them():
    session = np.tile(np.arange(100, 200), 3)  # three tickers stacked, as rows are
    past, recent = split_by_session(session, share=0.2)
    assert set(session[recent]) == set(range(180, 200))
    assert set(session[past]) == set(range(100, 175))
    assert len(past) == 3 * 75


def test_a_thinned_sample_is_purged_by_sessions_not_by_samples():
    session = np.arange(0, 200, 7)
    past, recent = split_by_session(session, share=0.1)
    assert session[recent].min() - session[past].max() == 7
    past, recent = split_by_session(np.arange(0, 200, 2), share=0.1)
    assert 2 * (recent.min() - past.max()) == 6


@pytest.mark.parametrize("n_sessions", [0, 1, 6])
def test_too_few_sessions_to_validate_is_said(n_sessions):
    with pytest.raises(NotEnoughHistory, match=f"{n_sessions} sessions leave no window to train on"):
        split_by_session(np.arange(n_sessions), share=0.2)


def test_the_shape_the_bot_expects_is_what_the_network_takes():
    assert StockLSTM(input_size=30)(torch.zeros(3, 20, 30)).shape == (3,)


def test_a_column_that_was_silent_in_training_says_nothing_when_it_comes_alive(small):
    silent = FEATURE_NAMES.index("policy_bonus")
    sequence = small.inputs.sequence.copy()
    sequence[:, silent] = 0
    member = fit(replace(small, inputs=replace(small.inputs, sequence=sequence)))
    alive = sequence.copy()
    alive[:, silent] = 0.4
    ends = small.sequence_ends[:50]
    before = member.predict(replace(small.inputs, sequence=sequence), ends)
    assert member.predict(replace(small.inputs, sequence=alive), ends).tolist() == before.tolist()
