import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import torch

from kstock_batch.errors import ModelRefused, NotEnoughHistory
from kstock_batch.features.windows import gather
from kstock_batch.learners.lstm import CHUNK, LstmMember, _n_threads
from kstock_batch.learners.lstm_network import StockLSTM
from kstock_batch.learners.lstm_sample import Sample, split_by_session
from kstock_batch.learners.lstm_scaler import Scaler
from kstock_batch.learners.lstm_training import Epoch, Recipe, Trained, train
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


def sample_of(examples, n):
    """The LSTM's first ``n`` windows."""
    return Sample.of(examples).part(np.arange(n))


def logit(p):
    return np.log(p / (1 - p))


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
    windows = member.scaler.apply(gather(planted.examples.inputs.sequence, ends))
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


def test_threads_change_no_bit_of_a_margin(planted, member, monkeypatch):
    inputs, ends = planted.examples.inputs, np.resize(planted.later_ends, 6 * CHUNK + 5)
    alone, several = [], []
    for threads, found in (("1", alone), ("4", several)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        found.append(member.margin(inputs, ends))
    assert (alone[0] == several[0]).all()


def test_a_worker_scores_in_as_many_threads_as_it_is_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert _n_threads() == 3
    for unset in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", unset)
        assert _n_threads() == os.cpu_count()


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


def test_the_number_of_threads_changes_no_byte(planted, tmp_path):
    some = few(planted.examples, 3000)  # batches of 150: three shards, the last of them smaller
    for threads in (1, 2, 3):
        (tmp_path / str(threads)).mkdir()
        fit(some, threads=threads, stop_early=True).save(tmp_path / str(threads))
    assert len({(tmp_path / str(threads) / "lstm.safetensors").read_bytes() for threads in (1, 2, 3)}) == 1


def test_a_batch_in_shards_has_the_gradient_of_the_whole(planted):
    sample = sample_of(planted.examples, 128)
    options = {"epochs": 3, "seed": 1, "threads": 2}

    def weights(shard_size):
        with pytest.MonkeyPatch.context() as patch:  # masks differ with the shards, so there are none here
            patch.setattr(
                StockLSTM, "draw_masks", lambda self, n, random, length: (torch.ones(20, n, 64), torch.ones(n, 64))
            )
            return train(sample, None, recipe=Recipe(shard_size=shard_size), **options).weights

    whole, shards = weights(128), weights(10)
    for name, weight in whole.items():
        np.testing.assert_allclose(shards[name], weight, atol=1e-5)


def test_dropout_keeps_four_fifths_at_a_mean_of_one_anew_for_every_step():
    network = StockLSTM()
    between, before_head = network.draw_masks(500, np.random.default_rng(1))
    assert (between.shape, before_head.shape) == ((20, 500, 64), (500, 64))
    assert between.dtype == torch.float32
    assert between.unique().tolist() == pytest.approx([0, 1.25], abs=1e-4)
    assert between.mean().item() == pytest.approx(1, abs=0.005)
    assert between.mean(dim=(1, 2)).std() > 0
    assert not torch.equal(before_head, network.draw_masks(500, np.random.default_rng(2))[1])


def test_masks_of_ones_give_what_torch_gives_without_dropout():
    network = StockLSTM().eval()
    windows = torch.randn(7, 20, 30)
    with torch.inference_mode():
        expected = network(windows)
        found = network(windows, (torch.ones(20, 7, 64), torch.ones(7, 64)))
        silenced = network(windows, (torch.ones(20, 7, 64), torch.zeros(7, 64)))
        deaf = network(windows, (torch.zeros(20, 7, 64), torch.ones(7, 64)))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(deaf, deaf[:1].expand(7), msg="the second layer reads nothing but masked states")
    assert silenced.tolist() == [network.head.bias.item()] * 7


def test_masks_reach_the_network_in_training(small, monkeypatch):
    before = digest(fit(small))
    monkeypatch.setattr(
        StockLSTM, "draw_masks", lambda self, n, random, length: (torch.ones(20, n, 64), torch.ones(n, 64))
    )
    assert digest(fit(small)) != before


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
    sample = sample_of(planted.examples, 300)
    contrary = replace(sample, label=1 - sample.label)  # the better it learns, the worse it is judged
    options = {"seed": 1, "threads": 1, "recipe": Recipe(learning_rate=0.01)}
    stopped = train(sample, contrary, epochs=20, **options)
    assert stopped.stopped_by == "patience"
    assert stopped.best_epoch < len(stopped.epochs) == stopped.best_epoch + stopped.recipe.stop_patience
    rates = [epoch.learning_rate for epoch in stopped.epochs[: stopped.best_epoch]]
    again = train(sample, None, epochs=len(rates), learning_rates=rates, **options)
    for name, weight in stopped.weights.items():
        np.testing.assert_array_equal(weight, again.weights[name])
    assert stopped.epochs[-1].learning_rate < stopped.epochs[0].learning_rate


def test_without_early_stop_all_epochs_run_on_all_windows(small):
    refitted = fit(small, epochs=3)
    assert refitted.best_epoch == 3
    assert refitted.facts["stopped_by"] == "epochs"
    assert refitted.card()["n_windows"] == len(small.sequence_ends)
    assert [epoch["validation_loss"] for epoch in refitted.facts["history"]] == [None] * 3


def test_progress_is_told_once_per_epoch(small):
    told = []
    fit(small, epochs=2, on_epoch=lambda *what: told.append(what))
    assert [number for number, _, _ in told] == [1, 2]
    assert all(train_loss > 0 and validation_loss is None for _, train_loss, validation_loss in told)


def test_learning_rates_are_those_of_the_epochs_kept():
    epochs = tuple(Epoch(0.5, 0.5, rate) for rate in (1e-3, 1e-3, 5e-4, 2.5e-4))
    scaler = Scaler(np.zeros(30, dtype=np.float32), np.ones(30, dtype=np.float32))
    facts = Trained({}, scaler, epochs, best_epoch=3, stopped_by="epochs", n_windows=9, recipe=Recipe()).facts()
    assert LstmMember({}, scaler, facts).learning_rates == (1e-3, 1e-3, 5e-4)


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


def test_an_offset_of_zero_is_no_offset(small, tmp_path):
    zero = replace(small, sequence_offset=np.zeros(len(small.sequence_ends), dtype=np.float32))
    assert digest(fit(zero, stop_early=True)) == digest(fit(small, stop_early=True))


def test_with_each_sessions_rate_as_offset_only_the_deviation_from_it_is_learnt(planted):
    rng = np.random.default_rng(4)
    examples = planted.examples
    session = examples.inputs.session[examples.sequence_ends]
    rate = np.where(session % 2, 0.8, 0.1)
    offset = logit(rate).astype(np.float32)
    noise = (rng.random(len(rate)) < rate).astype(np.float32)
    chance = replace(examples, sequence_label=noise, sequence_offset=offset)
    member = fit(chance, epochs=1, stop_early=True)
    said = logit(member.predict(examples.inputs, examples.sequence_ends))
    assert abs(said).mean() < 0.15, "the offset explains everything, so the network itself has nothing to say"
    best = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)).mean()
    epoch = member.facts["history"][0]
    assert epoch["train_loss"] == pytest.approx(best, abs=0.05)
    assert epoch["validation_loss"] == pytest.approx(best, abs=0.05), "validation adds the offset too"
    without = fit(replace(chance, sequence_offset=None), epochs=1, stop_early=True)
    assert without.facts["history"][0]["validation_loss"] > best + 0.1


@pytest.mark.parametrize("offset", [None, 2.0])
def test_the_first_prediction_is_the_base_rate_the_offsets_leave_to_explain(small, offset):
    label = (np.arange(len(small.sequence_ends)) % 4 == 0).astype(np.float32)
    given = None if offset is None else np.full(len(label), offset, dtype=np.float32)
    member = fit(replace(small, sequence_label=label, sequence_offset=given), learning_rates=[0.0])
    said = member.weights["head.bias"][0]
    assert said == pytest.approx(logit(0.25) - (offset or 0), abs=1e-5)


def test_a_budget_ends_training_after_a_step_with_what_there_is(planted):
    told = []
    member = fit(planted.examples, epochs=50, stop_early=True, budget_s=0.0, on_epoch=lambda *what: told.append(what))
    assert member.facts["stopped_by"] == "budget"
    assert member.best_epoch == len(member.facts["history"]) == len(told) == 1
    assert told[0][2] == member.facts["history"][0]["validation_loss"] is not None
    whole = fit(planted.examples, epochs=1, stop_early=True)
    assert member.facts["history"][0]["train_loss"] != whole.facts["history"][0]["train_loss"], "one step, no more"
    assert fit(planted.examples, epochs=1, budget_s=0.0).facts["stopped_by"] == "budget"
    assert np.isfinite(member.predict(planted.examples.inputs, planted.later_ends)).all()


def test_a_budget_that_ends_between_epochs_ends_training_there(small, monkeypatch):
    now = iter([0.0, *[1.0] * (len(small.sequence_ends) // 32), 99.0])  # begun; after each step but the last; the end
    monkeypatch.setattr("kstock_batch.learners.lstm_training.monotonic", lambda: next(now))
    member = fit(small, epochs=9, budget_s=10.0)
    assert (member.facts["stopped_by"], member.best_epoch) == ("budget", 1)


def test_a_budget_that_suffices_changes_nothing(small):
    assert digest(fit(small, epochs=2, budget_s=600.0)) == digest(fit(small, epochs=2))


def test_a_file_of_before_the_scaler_was_stored_is_refused_by_name(member, tmp_path):
    old = safetensors.numpy.save(dict(member.weights), {"kstock": json.dumps({"input_scale": 3.46, "facts": {}})})
    (tmp_path / "lstm.safetensors").write_bytes(old)
    with pytest.raises(ModelRefused, match=r"lstm\.safetensors cannot be read: 'scaler.mean'\n.*retrain"):
        LstmMember.load(tmp_path)


@pytest.mark.parametrize(
    ("std", "reason"),
    [
        (np.ones(29, dtype=np.float32), r"a scaler std of shape \(29,\), float32; it reads 30"),
        (np.ones(30), r"a scaler std of shape \(30,\), float64"),
        (np.full(30, np.nan, dtype=np.float32), "a scaler std that is NaN, infinite or negative"),
        (np.full(30, -1, dtype=np.float32), "a scaler std that is NaN, infinite or negative"),
    ],
)
def test_an_unsound_scale_is_refused_naming_file_and_values(member, tmp_path, std, reason):
    replace(member, scaler=replace(member.scaler, std=std)).save(tmp_path)
    with pytest.raises(ModelRefused, match=rf"lstm\.safetensors has {reason}"):
        LstmMember.load(tmp_path)
