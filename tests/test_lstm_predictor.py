"""The bot's LSTM calls: what its own tests ask of them, what they do without torch, and what they refuse."""

import inspect
import logging
import re
import subprocess
import sys
import sysconfig
from dataclasses import astuple
from pathlib import Path
from types import SimpleNamespace

import lightgbm
import numpy as np
import pytest
import torch
import xgboost
from sklearn.metrics import log_loss, roc_auc_score

from kstock_batch.bot import lstm_predictor
from kstock_batch.bot.lstm_predictor import (
    SEQUENCE_LENGTH,
    LSTMTrainResult,
    StockLSTM,
    build_sequences,
    ensemble_3model_predict,
    get_lstm_enhanced_prediction,
    load_lstm_model,
    predict_lstm,
    save_lstm_model,
    train_lstm,
)
from kstock_batch.bot.results import PredictionResult
from kstock_batch.errors import ModelRefused, NotEnoughHistory
from kstock_batch.learners import lstm_network, lstm_probability
from kstock_batch.learners.lstm import LstmMember
from kstock_batch.learners.lstm_checkpoint import write_checkpoint
from kstock_batch.learners.lstm_scaler import Scaler
from kstock_batch.market.contract import FEATURE_NAMES, N_FEATURES, WINDOW

REPOSITORY = Path(__file__).parents[1]
N = 120


def windows(n=N, columns=6, seed=0):
    return np.random.default_rng(seed).normal(size=(n, WINDOW, columns)).astype(np.float32)


def outcomes(n=N, seed=1):
    return np.random.default_rng(seed).integers(0, 2, n).astype(np.float32)


@pytest.fixture(scope="module")
def planted():
    """Windows of rises lie higher in their first column; the last column is constant."""
    x, y = windows(400), outcomes(400)
    x[:, :, 0] += np.where(y, 0.4, -0.4)[:, None]
    x[:, :, -1] = 7.0
    return x, y


@pytest.fixture(scope="module")
def trained(planted):
    return train_lstm(*planted, epochs=6, learning_rate=0.005)


@pytest.fixture
def opinionated():
    """A network that says about 0.8 of anything, and its scale."""
    torch.manual_seed(3)
    network = StockLSTM()
    with torch.no_grad():
        network.head.bias.fill_(1.4)
    return network, np.zeros(30, dtype=np.float32), np.ones(30, dtype=np.float32)


def weights_of(network):
    return {name: weight.numpy() for name, weight in network.state_dict().items()}


def same_weights(one, two):
    return all(np.array_equal(one.state_dict()[name], weight) for name, weight in two.state_dict().items())


# The names


def test_every_name_of_the_bots_contract_is_there_with_its_parameters():
    def parameters(call):
        return [
            (name, p.default) for name, p in inspect.signature(call).parameters.items() if p.kind is not p.KEYWORD_ONLY
        ]

    none = inspect.Parameter.empty
    assert SEQUENCE_LENGTH == 20
    assert parameters(StockLSTM) == [
        ("input_size", 30),
        ("hidden_size", 64),
        ("num_layers", 2),
        ("dropout", 0.2),
        ("bidirectional", False),
    ]
    assert parameters(build_sequences) == [("matrix", none), ("targets", none), ("seq_len", 20)]
    assert parameters(train_lstm) == [
        ("X", none),
        ("y", none),
        ("epochs", 50),
        ("batch_size", 32),
        ("learning_rate", 0.001),
        ("patience", 10),
        ("val_ratio", 0.2),
    ]
    assert parameters(ensemble_3model_predict) == [
        ("lgb", none),
        ("xgb", none),
        ("lstm", none),
        ("weights", (0.35, 0.30, 0.35)),
    ]
    assert [name for name, _ in parameters(get_lstm_enhanced_prediction)] == [
        "features_dict",
        "ml_model",
        "recent_sequence",
    ]
    assert list(LSTMTrainResult.__dataclass_fields__) == [
        "train_loss",
        "val_loss",
        "val_auc",
        "epochs_trained",
        "best_epoch",
        "overfitting_warning",
    ]


def test_the_bots_length_is_the_jobs():
    assert SEQUENCE_LENGTH == WINDOW
    assert inspect.signature(StockLSTM).parameters["input_size"].default == N_FEATURES


# build_sequences


def test_a_hundred_rows_of_thirty_columns_make_eighty_windows():
    x, y = build_sequences(np.zeros((100, 30)), np.zeros(100), SEQUENCE_LENGTH)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((80, 20, 30), np.float32, (80,), np.float32)


@pytest.mark.parametrize("n_rows", [0, 1, 19, 20])
def test_a_history_no_longer_than_a_window_makes_none(n_rows):
    x, y = build_sequences(np.zeros((n_rows, 30)), np.zeros(n_rows), 20)
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((0, 20, 30), np.float32, (0,), np.float32)


def test_a_window_is_the_rows_before_its_target_and_never_the_targets_own():
    rows = np.arange(30, dtype=np.float64)[:, None] * np.array([1, 100])
    x, y = build_sequences(rows, np.arange(30), seq_len=5)
    assert x.shape == (25, 5, 2)
    for k in range(25):
        np.testing.assert_array_equal(x[k, :, 0], np.arange(k, k + 5))
        np.testing.assert_array_equal(x[k, :, 1], 100 * np.arange(k, k + 5))
        assert y[k] == k + 5
    assert x[:, :, 0].max() < 29


def test_windows_are_a_copy():
    rows, targets = np.zeros((25, 2), dtype=np.float32), np.zeros(25, dtype=np.float32)
    x, y = build_sequences(rows, targets)
    x += 1
    y += 1
    assert not rows.any() and not targets.any()


@pytest.mark.parametrize(
    ("rows", "targets", "length", "told"),
    [
        ((25, 2), 24, 20, r"rows of shape \(25, 2\) and targets of \(24,\) make no windows of 20"),
        ((25,), 25, 20, r"rows of shape \(25,\)"),
        ((25, 2), 25, 0, "no windows of 0"),
    ],
)
def test_rows_and_targets_that_do_not_fit_are_refused(rows, targets, length, told):
    with pytest.raises(ValueError, match=told):
        build_sequences(np.zeros(rows), np.zeros(targets), length)


# The network


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_network_makes_one_probability_of_each_window(bidirectional):
    network = StockLSTM(bidirectional=bidirectional).eval()
    p = network(1e3 * torch.randn(4, 20, 30))
    assert p.shape == (4, 1)
    assert ((p >= 0) & (p <= 1)).all()
    assert isinstance(network, StockLSTM) and isinstance(network, torch.nn.Module)
    assert not isinstance(torch.nn.Linear(1, 1), StockLSTM)


def test_it_is_the_network_of_the_job_and_a_sigmoid():
    torch.manual_seed(0)
    ours = lstm_network.StockLSTM().eval()
    network = StockLSTM().eval()
    network.load_state_dict(ours.state_dict())
    x = torch.randn(5, 20, 30)
    with torch.inference_mode():
        torch.testing.assert_close(network(x), torch.sigmoid(ours(x))[:, None], rtol=0, atol=0)


def test_layers_computed_one_by_one_equal_torchs_own_in_both_directions():
    torch.manual_seed(0)
    network = lstm_network.StockLSTM(5, 8, 3, 0.0, bidirectional=True)
    x = torch.randn(7, 20, 5)
    masks = network.draw_masks(7, np.random.default_rng(0))  # a rate of 0: all ones
    torch.testing.assert_close(network(x, masks), network(x))


def test_the_job_itself_does_not_score_a_network_that_reads_backwards():
    with pytest.raises(ModelRefused, match="it reads its windows in both directions, which is not scored here"):
        LstmMember.sound(
            weights_of(StockLSTM(bidirectional=True)), Scaler(*np.ones((2, 30), dtype=np.float32)), {}, "it"
        )


# train_lstm


def test_a_planted_signal_is_learnt_and_told_of_the_windows_held_out(planted, trained):
    model, mean, std, result = trained
    x, y = planted[0][320:], planted[1][320:]
    p = np.array([predict_lstm(model, window, mean, std) for window in x])
    assert result.val_auc == pytest.approx(roc_auc_score(y, p), abs=1e-9)
    assert result.val_loss == pytest.approx(log_loss(y, p), abs=1e-5)
    assert result.val_auc > 0.9 and result.val_loss < 0.5 and result.train_loss < 0.6
    assert 1 <= result.best_epoch <= result.epochs_trained <= 6
    assert not model.training
    assert not result.overfitting_warning


def test_the_scale_is_that_of_the_training_part_alone():
    x = windows(100)
    x[80:] += 1000
    _, mean, std, _ = train_lstm(x, outcomes(100), epochs=1)
    np.testing.assert_allclose(mean, x[:80].mean(axis=(0, 1)), atol=1e-6)
    np.testing.assert_allclose(std, x[:80].std(axis=(0, 1)), rtol=1e-5)
    assert (mean.shape, mean.dtype, std.dtype) == ((6,), np.float32, np.float32)


def test_what_is_held_out_teaches_nothing():
    x, y = windows(100), outcomes(100)
    changed, turned = x.copy(), y.copy()
    changed[80:], turned[80:] = 5.0, 1 - turned[80:]
    assert same_weights(train_lstm(x, y, epochs=1)[0], train_lstm(changed, turned, epochs=1)[0])
    changed = x.copy()
    changed[79, 3, 2] += 1
    assert not same_weights(train_lstm(x, y, epochs=1)[0], train_lstm(changed, y, epochs=1)[0])


@pytest.mark.parametrize(("n", "val_ratio", "n_past"), [(100, 0.2, 80), (10, 0.3, 7), (3, 0.01, 2), (50, 0.5, 25)])
def test_the_last_windows_in_time_are_held_out(n, val_ratio, n_past, monkeypatch):
    seen = {}

    def train(past, recent, **options):
        seen.update(options, past=past.windows(), recent=recent.windows(), labels=(past.label, recent.label))
        raise InterruptedError

    monkeypatch.setattr(lstm_probability, "train", train)
    x, y = windows(n), outcomes(n)
    with pytest.raises(InterruptedError):
        train_lstm(x, y, 9, 64, 0.02, 4, val_ratio)
    np.testing.assert_array_equal(seen["past"], x[:n_past])
    np.testing.assert_array_equal(seen["recent"], x[n_past:])
    np.testing.assert_array_equal(np.concatenate(seen["labels"]), y)
    recipe = seen["recipe"]
    assert (recipe.batch_for(n), recipe.learning_rate, recipe.stop_patience, seen["epochs"]) == (64, 0.02, 4, 9)
    assert (recipe.lower_rate_patience, recipe.weight_decay, recipe.warm_up_steps) == (5, 0, 1)


def test_the_rate_falls_after_five_epochs_in_vain_and_the_best_weights_come_back():
    x, y = windows(80), outcomes(80)
    asked = {"batch_size": 16, "learning_rate": 0.02, "val_ratio": 0.2, "seed": 1}
    ended = lstm_probability.train_on_windows(x, y, epochs=40, patience=9, **asked)
    best, n = ended.run.best_epoch, len(ended.run.epochs)
    assert ended.run.stopped_by == "patience" and n == best + 9
    rates = [epoch.learning_rate for epoch in ended.run.epochs]
    assert rates[: best + 6] == [0.02] * (best + 6)
    assert rates[best + 6] == 0.01
    losses = [epoch.validation_loss for epoch in ended.run.epochs]
    assert min(losses) == losses[best - 1] < losses[-1]
    p = lstm_probability.probabilities(ended.network, x[64:], ended.scaler)
    assert log_loss(y[64:], p) == pytest.approx(losses[best - 1], abs=1e-5)


def test_outcomes_learnt_by_heart_are_told():
    x, y = windows(60, columns=20), outcomes(60)
    *_, result = train_lstm(x, y, epochs=40, patience=40, learning_rate=0.01)
    assert result.overfitting_warning
    assert result.val_loss > 0.6 and result.best_epoch < 40 == result.epochs_trained


def test_the_same_arguments_give_the_same_model_and_leave_torchs_settings_alone():
    x, y = windows(), outcomes()
    torch.manual_seed(5)
    first, *_, result = train_lstm(x, y, epochs=2)
    drawn = torch.rand(3)
    torch.manual_seed(99)
    second, *_, again = train_lstm(x, y, epochs=2)
    assert same_weights(first, second) and astuple(result) == astuple(again)
    assert not same_weights(first, train_lstm(x, y, epochs=2, seed=2)[0])
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_windows_of_another_length_can_be_learnt():
    x, y = windows()[:, :7], outcomes()
    model, mean, std, _ = train_lstm(x, y, epochs=1)
    np.testing.assert_allclose(mean, x[:96].mean(axis=(0, 1)), atol=1e-6)
    assert 0 < predict_lstm(model, x[0], mean, std) < 1


def test_one_outcome_held_out_has_no_auc():
    y = outcomes()
    y[96:] = 1
    *_, result = train_lstm(windows(), y, epochs=1)
    assert np.isnan(result.val_auc) and np.isfinite(result.val_loss)


def test_the_auc_counts_ties_half():
    p, y = np.array([0.1, 0.4, 0.4, 0.4, 0.9], dtype=np.float32), np.array([0, 1, 0, 1, 0], dtype=np.float32)
    assert lstm_probability._auc(p, y) == pytest.approx(roc_auc_score(y, p))


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_windows_say_so(n):
    with pytest.raises(NotEnoughHistory) as refused:
        train_lstm(windows(n), outcomes(n))
    assert str(refused.value) == (
        f"{n} windows leave none to train on before the last 20%\n"
        "  fix: train on more sessions: build_sequences needs more than 20 rows"
    )


@pytest.mark.parametrize(
    ("x", "y", "options", "told"),
    [
        (windows()[:, :, 0], outcomes(), {}, r"windows must have shape \(N, T, F\) and labels \(N,\), not \(120, 20\)"),
        (windows(), outcomes(N - 1), {}, r"not \(120, 20, 6\) and \(119,\)"),
        (np.where(windows() > 2, np.nan, windows()), outcomes(), {}, r"\d+ of 14400 values of the windows are no num"),
        (windows(), np.where(outcomes() > 0, np.nan, 0), {}, r"labels are 0 or 1, not \[nan"),
        (windows(), outcomes() / 2, {}, r"labels are 0 or 1, not \[0\.5\]"),
        (windows(), outcomes(), {"val_ratio": 0.0}, "val_ratio is 0.0: give a share between 0 and 1"),
        (windows(), outcomes(), {"val_ratio": 1.0}, "val_ratio is 1.0: give a share between 0 and 1"),
        (windows(), outcomes(), {"epochs": 0}, "epochs, batch_size and patience are 0, 32 and 10: give 1 or more"),
    ],
)
def test_what_nothing_can_be_learnt_from_is_refused(x, y, options, told):
    with pytest.raises(ValueError, match=told):
        train_lstm(x, y, **options)


# predict_lstm


def test_without_a_model_or_a_window_the_answer_is_one_half(trained):
    assert predict_lstm(None, np.zeros((20, 30))) == 0.5
    assert predict_lstm(trained[0], None, *trained[1:3]) == 0.5


def test_without_torch_the_answer_is_one_half_too(trained, planted, monkeypatch):
    monkeypatch.setattr(lstm_predictor, "_torch_room", lambda: None)
    assert predict_lstm(trained[0], planted[0][0], *trained[1:3]) == 0.5


def test_a_window_with_a_value_that_is_no_number_gets_one_half_and_an_extreme_one_a_probability(planted, trained):
    model, mean, std, _ = trained
    window = planted[0][0].copy()
    assert predict_lstm(model, window, mean, std) != 0.5
    for factor in (1e6, -1e6):
        assert 0 <= predict_lstm(model, factor * window, mean, std) <= 1
    window[3, 2] = np.nan
    assert predict_lstm(model, window, mean, std) == 0.5


def test_a_window_is_scaled_as_the_training_windows_were(planted, trained):
    model, mean, std, _ = trained
    window = planted[0][5]
    p = predict_lstm(model, window.tolist(), mean.tolist(), std.tolist())
    with torch.inference_mode():
        expected = model(torch.from_numpy((window - mean) / std)[None]).item()
    assert p == pytest.approx(expected, abs=1e-6)
    assert predict_lstm(model, (window - mean) / std) == pytest.approx(p, abs=1e-6)
    assert predict_lstm(model, window[None], mean, std) == p
    assert predict_lstm(model.train(), window, mean, std) == p  # no dropout in an answer


def test_a_column_that_was_constant_stays_silent_when_it_comes_alive(planted, trained):
    model, mean, std, _ = trained
    assert np.isposinf(std[-1]) and mean[-1] == 7
    alive = planted[0][5].copy()
    alive[:, -1] = np.arange(20)
    p = predict_lstm(model, planted[0][5], mean, std)
    assert predict_lstm(model, alive, mean, std) == p
    assert predict_lstm(model, alive, mean, np.where(np.isinf(std), 0, std)) == p


@pytest.mark.parametrize(
    ("window", "mean", "std", "told"),
    [
        (np.zeros((2, 20, 6)), None, None, r"one window has shape \(T, F\), not \(2, 20, 6\)"),
        (np.zeros(6), None, None, r"not \(6,\)"),
        (np.zeros((0, 6)), None, None, r"not \(0, 6\)"),
        (np.zeros((20, 6)), np.zeros(6), None, r"mean and std must both have shape \(F,\)"),
        (np.zeros((20, 6)), np.zeros(6), np.zeros(1), r"not \(6,\) and \(1,\)"),
        (np.zeros((20, 1)), np.zeros(6), np.ones(6), "the window has 1 columns, its scale 6"),
    ],
)
def test_what_is_no_window_or_no_scale_is_refused(trained, window, mean, std, told):
    with pytest.raises(ValueError, match=told):
        predict_lstm(trained[0], window, mean, std)


# The file


def test_a_model_that_was_saved_and_loaded_says_exactly_the_same(planted, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model, mean, std, _ = trained
    assert save_lstm_model(model, mean, std) == Path("models/lstm_stock.pt")
    loaded, loaded_mean, loaded_std = load_lstm_model()
    np.testing.assert_array_equal(loaded_mean, mean)
    np.testing.assert_array_equal(loaded_std, std)
    assert isinstance(loaded, StockLSTM) and not loaded.training
    for window in planted[0][:20]:
        assert predict_lstm(loaded, window, loaded_mean, loaded_std) == predict_lstm(model, window, mean, std)


@pytest.mark.parametrize("sizes", [(30, 64, 2, 0.2, True), (3, 8, 1, 0.0, False), (5, 16, 3, 0.5, True)])
def test_networks_of_other_sizes_come_back_too(sizes, tmp_path):
    network, scale = StockLSTM(*sizes), np.ones(sizes[0])
    save_lstm_model(network, 2 * scale, 3 * scale, tmp_path / "other.pt")
    loaded = load_lstm_model(str(tmp_path / "other.pt"))
    window = windows(columns=sizes[0])[0]
    assert predict_lstm(loaded[0], window, *loaded[1:]) == predict_lstm(network, window, 2 * scale, 3 * scale)


def test_the_file_of_the_job_is_loaded_and_says_what_the_jobs_member_says(tmp_path):
    torch.manual_seed(1)
    std = np.full(30, 0.5, dtype=np.float32)
    std[4] = 0
    member = LstmMember.sound(weights_of(lstm_network.StockLSTM()), Scaler(np.full(30, 0.1, np.float32), std), {}, "it")
    write_checkpoint(member, tmp_path / "lstm_stock.pt")
    model = load_lstm_model(tmp_path / "lstm_stock.pt")
    rows = windows(columns=30)[0]
    inputs = SimpleNamespace(sequence=rows)
    assert predict_lstm(model[0], rows, *model[1:]) == pytest.approx(
        member.predict(inputs, np.array([WINDOW - 1]))[0], abs=1e-6
    )


def test_a_missing_file_and_missing_torch_give_three_times_none(trained, tmp_path, monkeypatch):
    assert load_lstm_model(tmp_path / "none.pt") == (None, None, None)
    path = save_lstm_model(*trained[:3], tmp_path / "there.pt")
    monkeypatch.setattr(lstm_predictor, "_torch_room", lambda: None)
    assert load_lstm_model(path) == (None, None, None)


def test_nothing_is_saved_where_there_is_no_model(tmp_path):
    assert save_lstm_model(None, None, None, tmp_path / "none.pt") is None
    assert list(tmp_path.iterdir()) == []


class Exploit:
    """What a hostile file would hold: unpickling it runs a command."""

    def __reduce__(self):
        return (open, ("proof of execution", "w"))


def spoil(path, how):
    if how == "torn":
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "text":
        path.write_bytes(b"no model")
    elif how == "the bot's old one":
        torch.save({"model_state": {}, "scaler_mean": np.zeros(30), "scaler_std": np.ones(30)}, path)
    else:
        torch.save(torch.load(path, weights_only=True) | {"scaler_mean": Exploit()}, path)


@pytest.mark.parametrize("how", ["torn", "text", "the bot's old one", "code"])
def test_an_unfit_file_is_refused_by_name_and_nothing_in_it_is_run(how, opinionated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = save_lstm_model(*opinionated)
    spoil(path, how)
    with pytest.raises(ModelRefused, match=r"^models/lstm_stock\.pt (cannot be read|holds more than|is no checkpoint)"):
        load_lstm_model()
    assert not (tmp_path / "proof of execution").exists()


def test_a_network_that_is_not_ours_is_not_saved(tmp_path):
    with pytest.raises(ModelRefused, match="the LSTM to save has no weights of an LSTM"):
        save_lstm_model(torch.nn.Linear(30, 1), np.zeros(30), np.ones(30), tmp_path / "x.pt")
    with pytest.raises(ModelRefused, match=r"has a scaler mean of shape \(29,\)"):
        save_lstm_model(StockLSTM(), np.zeros(29), np.ones(29), tmp_path / "x.pt")
    with pytest.raises(ValueError, match="saved with the mean and std"):
        save_lstm_model(StockLSTM(), None, None, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


# ensemble_3model_predict


def test_three_opinions_are_weighed():
    assert ensemble_3model_predict(0.7, 0.6, 0.8) == 0.35 * 0.7 + 0.30 * 0.6 + 0.35 * 0.8
    assert ensemble_3model_predict(0.7, 0.6, 0.8, (0.2, 0.3, 0.5)) == pytest.approx(0.14 + 0.18 + 0.4)
    assert ensemble_3model_predict(0.7, 0.6, 0.8, weights=(2, 3, 5)) == pytest.approx(0.14 + 0.18 + 0.4)


@pytest.mark.parametrize("silent", [0.5, 0.4901, 0.5099, None, float("nan")])
def test_an_lstm_with_nothing_to_say_leaves_it_to_the_trees(silent):
    assert ensemble_3model_predict(0.7, 0.6, silent) == 0.55 * 0.7 + 0.45 * 0.6


@pytest.mark.parametrize("speaks", [0.489, 0.511])
def test_an_lstm_a_hundredth_off_has_something_to_say(speaks):
    assert ensemble_3model_predict(0.9, 0.9, speaks) == pytest.approx(0.65 * 0.9 + 0.35 * speaks)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("lstm", [0.0, 0.5, 1.0])
def test_a_blend_stays_within_zero_and_one(p, lstm):
    assert 0 <= ensemble_3model_predict(p, p, lstm) <= 1
    assert 0 <= ensemble_3model_predict(p, p, lstm, (0.9, 0.9, 0.9)) <= 1


@pytest.mark.parametrize("weights", [(0, 0, 0), (-1, 1, 1)])
def test_weights_that_are_no_shares_are_refused(weights):
    with pytest.raises(ValueError, match=re.escape(f"weights {weights} are no shares")):
        ensemble_3model_predict(0.7, 0.6, 0.8, weights)


# get_lstm_enhanced_prediction


class Says:
    """A classifier that always says ``p`` and remembers what it was asked."""

    def __init__(self, p, **facts):
        self.p = p
        self.__dict__.update(facts)

    def predict_proba(self, rows):
        self.rows = rows
        return np.array([[1 - self.p, self.p]])


FEATURES = {name: float(n) for n, name in enumerate(FEATURE_NAMES)}
RECENT = windows(columns=30)[0]


@pytest.fixture
def path(opinionated, tmp_path):
    return save_lstm_model(*opinionated, tmp_path / "lstm_stock.pt")


def enhanced(path, lgb=0.7, xgb=0.6, recent=RECENT):
    model = {"lgb": lgb and Says(lgb), "xgb": xgb and Says(xgb)}
    return get_lstm_enhanced_prediction(FEATURES, model, recent, path=path)


def test_each_member_is_blended_with_what_it_says_itself(opinionated, path):
    lstm = predict_lstm(opinionated[0], RECENT, *opinionated[1:])
    assert 0.7 < lstm < 0.9
    found = enhanced(path)
    assert found == PredictionResult(0.35 * 0.7 + 0.30 * 0.6 + 0.35 * lstm, "BUY", [])
    base = 0.55 * 0.7 + 0.45 * 0.6
    invented = ensemble_3model_predict(1.05 * base, 0.95 * base, lstm)  # what the bot did: one number made into two
    assert abs(found.probability - invented) > 1e-3


@pytest.mark.parametrize(
    "recent", [None, RECENT[:19], np.where(np.arange(30) == 3, np.nan, RECENT)], ids=["none", "19 bars", "NaN"]
)
def test_without_a_whole_window_the_two_models_go_on(path, recent):
    assert enhanced(path, recent=recent) == PredictionResult(0.55 * 0.7 + 0.45 * 0.6, "BUY", [])
    assert enhanced(path, xgb=None, recent=recent) == PredictionResult(0.7, "BUY", [])  # no 0.5 is mixed in


def test_without_a_file_or_torch_the_two_models_go_on(path, tmp_path, monkeypatch):
    two = PredictionResult(0.55 * 0.7 + 0.45 * 0.6, "BUY", [])
    assert enhanced(tmp_path / "none.pt") == two
    monkeypatch.setattr(lstm_predictor, "_torch_room", lambda: None)
    assert enhanced(path) == two


def test_the_weights_of_absent_members_go_to_those_that_are_there(opinionated, path):
    lstm = predict_lstm(opinionated[0], RECENT, *opinionated[1:])
    assert enhanced(path, xgb=None).probability == pytest.approx((0.7 + lstm) / 2)
    assert enhanced(path, lgb=None).probability == pytest.approx((0.30 * 0.6 + 0.35 * lstm) / 0.65)
    assert enhanced(path, None, None).probability == pytest.approx(lstm)
    assert enhanced(None, xgb=None, recent=None).probability == pytest.approx(0.7)
    assert get_lstm_enhanced_prediction({}, None, RECENT, path=path).probability == pytest.approx(lstm)


def test_nobody_there_is_no_prediction_and_never_one_half(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert get_lstm_enhanced_prediction(FEATURES) is None
    assert get_lstm_enhanced_prediction(FEATURES, {"lgb": None, "xgb": None}, RECENT) is None


def test_the_last_twenty_bars_are_read(path):
    longer = np.concatenate([windows(columns=30, seed=9)[0], RECENT])
    assert enhanced(path, recent=longer) == enhanced(path, recent=RECENT) == enhanced(path, recent=RECENT[None])
    assert enhanced(path, recent=longer[:-1]) != enhanced(path, recent=RECENT)


def test_an_object_may_hold_the_members_and_the_jobs_name_is_known_too(path):
    expected = enhanced(path)
    for model in (SimpleNamespace(lgb=Says(0.7), xgb=Says(0.6)), {"lgbm": Says(0.7), "xgb": Says(0.6)}):
        assert get_lstm_enhanced_prediction(FEATURES, model, RECENT, path=path) == expected


def test_what_holds_no_member_is_a_mistake():
    with pytest.raises(TypeError, match=r"ml_model is a str that holds none of \['lgb', 'lgbm', 'xgb'\]"):
        get_lstm_enhanced_prediction(FEATURES, "model.pkl")


@pytest.mark.parametrize("p", [-2.3, 1.5, float("nan")])
def test_what_is_no_probability_is_never_blended(p):
    with pytest.raises(ModelRefused) as refused:
        get_lstm_enhanced_prediction(FEATURES, {"lgb": Says(0.7), "xgb": Says(p)})
    assert (
        str(refused.value) == f"the bot's xgb says {p}, which is no probability\n  fix: retrain it, or set it to None"
    )


def test_a_member_gets_the_columns_it_learnt_else_the_contracts_in_their_order():
    shuffled = dict(reversed(FEATURES.items())) | {"news_score": 0.5}
    del shuffled["per"]
    plain, named = Says(0.5), Says(0.5, feature_names_in_=np.array(["news_score", "roe", "per"]))
    positional = Says(0.5, feature_name_=["Column_0", "Column_1"])
    get_lstm_enhanced_prediction(shuffled, {"lgb": plain, "xgb": named})
    get_lstm_enhanced_prediction(shuffled, {"lgb": positional})
    expected = np.arange(30.0)
    expected[FEATURE_NAMES.index("per")] = np.nan
    np.testing.assert_array_equal(plain.rows, expected[None])
    np.testing.assert_array_equal(positional.rows, expected[None])
    np.testing.assert_array_equal(named.rows, [[0.5, FEATURE_NAMES.index("roe"), np.nan]])


def test_boosters_are_asked_as_they_are():
    x, y = windows(columns=30)[:, 0], outcomes()
    quiet = {"objective": "binary", "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 5}
    lgb = lightgbm.train(quiet, lightgbm.Dataset(x, y), 5)
    xgb = xgboost.train({"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(x, y), 5)
    expected = 0.55 * lgb.predict(x[:1])[0] + 0.45 * xgb.predict(xgboost.DMatrix(x[:1]))[0]
    row = {name: float(value) for name, value in zip(FEATURE_NAMES, x[0], strict=True)}
    found = get_lstm_enhanced_prediction(row, {"lgb": lgb, "xgb": xgb})
    assert found.probability == pytest.approx(expected, abs=1e-6)
    assert abs(found.probability - 0.5) > 0.01


def test_a_file_is_loaded_once_and_again_when_another_takes_its_place(opinionated, path, monkeypatch):
    loads = []
    load = lstm_probability.load
    monkeypatch.setattr(lstm_probability, "load", lambda source: loads.append(source) or load(source))
    before = {enhanced(path).probability for _ in range(3)}
    assert loads == [path] and len(before) == 1
    with torch.no_grad():
        opinionated[0].head.bias.fill_(-1.4)
    save_lstm_model(*opinionated, path)
    assert enhanced(path).probability < min(before) - 0.1
    assert loads == [path, path]


def test_an_unfit_file_is_told_once_and_the_trees_go_on_until_a_sound_one_comes(opinionated, path, caplog):
    sound = enhanced(path)
    spoil(path, "torn")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert enhanced(path).probability == pytest.approx(0.55 * 0.7 + 0.45 * 0.6)
    (told,) = caplog.messages
    assert told.startswith(f"going on without the LSTM: {path} cannot be read")
    save_lstm_model(*opinionated, path)
    assert enhanced(path) == sound


# Where it runs


def environment(folder, *libraries, but=()):
    """Return a folder that holds the named libraries (none named: all installed here) and none of ``but``."""
    folder.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        name = entry.name.replace("-", ".").split(".")[0].lower()
        if (not libraries or name in libraries) and name not in but:
            (folder / entry.name).symlink_to(entry)
    return folder


def in_python(code, *args):
    ended = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", code, *map(str, args)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.splitlines()


BARE = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from kstock_batch.bot.lstm_predictor import *
from kstock_batch.bot.lstm_predictor import StockLSTM, _HAS_TORCH
from kstock_batch.errors import ModelRefused
class Says:
    def __init__(self, p): self.p = p
    def predict_proba(self, rows): return [[1 - self.p, self.p]]
print(SEQUENCE_LENGTH, _HAS_TORCH, predict_lstm(object(), [[0.0] * 30] * 20), isinstance(3, StockLSTM))
print(load_lstm_model(sys.argv[3]), save_lstm_model(None, None, None), train_lstm([], [])[:3])
print(train_lstm([], [])[3])
print(get_lstm_enhanced_prediction({}, {"lgb": Says(0.7), "xgb": Says(0.6)}, [[0.0] * 30] * 20, path=sys.argv[3]))
print(ensemble_3model_predict(0.7, 0.6, 0.8), get_lstm_enhanced_prediction({}))
try:
    StockLSTM()
except ModelRefused as error:
    print(error)
print([name for name in ("torch", "numpy", "polars", "lightgbm", "xgboost", "shap") if name in sys.modules])
"""


def test_everything_imports_and_degrades_with_nothing_but_the_standard_library_and_duckdb(path, tmp_path):
    bare = environment(tmp_path / "site", "duckdb", "_duckdb")
    assert in_python(BARE, bare, REPOSITORY, path) == [
        "20 False 0.5 False",
        "(None, None, None) None (None, None, None)",
        "LSTMTrainResult(train_loss=nan, val_loss=nan, val_auc=nan, epochs_trained=0, best_epoch=0,"
        " overfitting_warning=False)",
        "PredictionResult(probability=0.655, label='BUY', shap_top3=[])",
        f"{0.35 * 0.7 + 0.30 * 0.6 + 0.35 * 0.8} None",
        "StockLSTM needs torch, which is not installed here",
        "  fix: install torch, or go on with the two tree models",
        "[]",
    ]


BROKEN = """
import logging, sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
logging.basicConfig(stream=sys.stdout, format="%(message)s")
from kstock_batch.bot.lstm_predictor import *
print([predict_lstm(object(), [[0.0] * 30] * 20) for _ in range(2)], load_lstm_model(sys.argv[3]))
"""


def test_a_torch_that_cannot_be_loaded_is_told_once_and_is_as_good_as_none(path, tmp_path):
    site = environment(tmp_path / "site", "numpy")
    (site / "torch").mkdir()
    (site / "torch" / "__init__.py").write_text("raise OSError('libtorch.so: cannot open shared object file')")
    assert in_python(BROKEN, site, REPOSITORY, path) == [
        "going on without the LSTM: torch cannot be imported: libtorch.so: cannot open shared object file",
        "[0.5, 0.5] (None, None, None)",
    ]


def test_a_module_of_ours_that_cannot_be_imported_is_not_taken_for_missing_torch(monkeypatch):
    lstm_predictor._torch_room.cache_clear()
    monkeypatch.setitem(sys.modules, "kstock_batch.learners.lstm_probability", None)
    with pytest.raises(ImportError, match="lstm_probability"):
        predict_lstm(object(), RECENT)


IMPORTED = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import kstock_batch.bot.lstm_predictor as at_once
from kstock_batch.bot.lstm_predictor import StockLSTM
outside = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(at_once._HAS_TORCH, sorted(outside - {"__main__"}))
"""


def test_importing_it_imports_no_library_even_where_all_are_installed(tmp_path):
    everything = environment(tmp_path / "site")
    assert in_python(IMPORTED, everything, REPOSITORY) == ["True ['kstock_batch']"]


WITH_TORCH = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import warnings
warnings.simplefilter("error")
import numpy as np
from kstock_batch.bot.lstm_predictor import *
x, y = build_sequences(np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 2)
model, mean, std, result = train_lstm(x, y, epochs=1)
save_lstm_model(model, mean, std, sys.argv[3])
loaded = load_lstm_model(sys.argv[3])
print(predict_lstm(model, x[0], mean, std) == predict_lstm(loaded[0], x[0], *loaded[1:]) != 0.5, result.epochs_trained)
alone = get_lstm_enhanced_prediction({}, None, x[0], path=sys.argv[3])
print(alone.probability == predict_lstm(loaded[0], x[0], *loaded[1:]))
ours = [name for name in sys.modules if name.startswith("kstock_batch.")]
print(*(sys.modules[name].__file__ for name in ours))
"""
HEAVY = (
    *("polars", "_polars_runtime_32", "_polars_runtime_64", "lightgbm", "xgboost", "xgboost_cpu", "shap", "scipy"),
    *("sklearn", "safetensors", "pyarrow", "duckdb", "_duckdb", "pandas", "click", "rich", "exchange_calendars"),
)


@pytest.fixture(scope="module")
def opened_for_the_lstm(tmp_path_factory):
    """What an environment with torch and numpy says, and the modules of ours it needed."""
    folder = tmp_path_factory.mktemp("bot")
    site = environment(folder / "site", but=HEAVY)
    *told, files = in_python(WITH_TORCH, site, REPOSITORY, folder / "lstm_stock.pt")
    return told, {Path(file).relative_to(REPOSITORY) for file in files.split()}


def test_with_torch_and_numpy_alone_it_trains_saves_loads_and_says(opened_for_the_lstm):
    assert opened_for_the_lstm[0] == ["True 1", "True"]


def test_whatever_it_opens_for_that_is_linted_as_the_bots_python(opened_for_the_lstm):
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    named = re.search(r"BOTS_LSTM := ((?:.*\\\n)*.*)", makefile).group(1)
    linted = set(re.findall(r"[\w/]+\.py", named))
    opened = {path for path in opened_for_the_lstm[1] if path.name not in ("__init__.py", "errors.py")}
    opened = {path for path in opened if path.parent.name != "bot"}
    in_learners = {path.name for path in opened if path.parent.name == "learners"}
    assert linted == in_learners | {str(path) for path in opened if path.parent.name != "learners"}
    assert all("from __future__ import annotations" in (REPOSITORY / path).read_text("utf-8") for path in opened)
