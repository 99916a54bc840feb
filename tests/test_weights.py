"""The weights of the blend: no passengers, and learned ones only where they were proven on other sessions."""

import numpy as np
import pytest

from kstock_batch.learners.calibration import parts, sigmoid
from kstock_batch.learners.ensemble import WEIGHTS, WEIGHTS_WITHOUT_LSTM
from kstock_batch.training.out_of_fold import OutOfFold
from kstock_batch.training.splits import Fold
from kstock_batch.training.weights import HIGHEST, LOWEST, choose_weights, start_weights

N_SESSIONS, N_STOCKS, N_FOLDS = 90, 60, 3
FOLDS = tuple(Fold(np.arange(0), block) for block in np.array_split(np.arange(N_SESSIONS), N_FOLDS))


def judged(seed: int = 1, **noise: float) -> tuple[OutOfFold, np.ndarray]:
    """Members that see one truth, each through noise of its own of the given size; infinite = noise alone."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(N_SESSIONS), N_STOCKS)
    level = rng.normal(-1.1, 0.3, N_SESSIONS)[session]
    truth = rng.normal(0, 0.8, len(session))
    margins = {}
    for name, size in noise.items():
        own = rng.normal(size=len(session))
        margins[name] = level + (own if np.isinf(size) else truth + size * own)
    oof = OutOfFold(
        windows=np.arange(len(session)),
        fold=session // (N_SESSIONS // N_FOLDS),
        session=session,
        y=(rng.random(len(session)) < sigmoid(level + truth)).astype(np.float64),
        margins=margins,
        floors={},
        level=parts(level, session)[0],
        base_rate=np.full(len(session), 0.25),
        durations={},
    )
    return oof, rng.lognormal(size=len(session))


def chosen(seed: int = 1, **noise: float):
    oof, atr_pct = judged(seed, **noise)
    found = choose_weights(oof, FOLDS, atr_pct)
    assert sum(found.values.values()) == pytest.approx(1, abs=1e-3)
    assert list(found.values) == list(noise) or set(found.values) == set(noise)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_an_lstm_that_is_noise_weighs_nothing_and_the_note_says_what_it_did(seed):
    found = chosen(seed, lgbm=0.5, xgb=0.5, lstm=np.inf)
    assert found.values["lstm"] == 0.0
    assert {name: found.values[name] for name in WEIGHTS_WITHOUT_LSTM} == pytest.approx(WEIGHTS_WITHOUT_LSTM, abs=0.4)
    assert "the LSTM's weight is 0: with it the log-loss out of fold changes by +" in found.note
    assert "and the AUC within session and volatility quintile by " in found.note


@pytest.mark.parametrize("seed", range(3))
def test_an_lstm_that_sees_what_the_trees_do_not_keeps_its_weight(seed):
    found = chosen(seed, lgbm=1.0, xgb=1.0, lstm=1.0)
    assert found.values["lstm"] > LOWEST
    assert "the LSTM" not in found.note


def test_members_alike_keep_the_bots_weights_for_learned_ones_prove_nothing():
    found = chosen(lgbm=0.8, xgb=0.8, lstm=0.8)
    assert not found.is_learned
    assert found.values == WEIGHTS
    assert found.note.startswith("the bot's weights: learned ones change the log-loss of the folds")


def test_weights_are_learned_where_one_member_is_far_better_and_stay_within_bounds():
    found = chosen(lgbm=4.0, xgb=4.0, lstm=0.1)
    assert found.is_learned
    assert found.note.startswith("learned weights: ")
    assert found.values["lstm"] == pytest.approx(HIGHEST, abs=1e-3)
    assert min(found.values.values()) >= LOWEST - 1e-3
    of_two = chosen(lgbm=0.1, xgb=4.0)
    assert of_two.is_learned
    assert dict(of_two.values) == pytest.approx({"lgbm": 1 - LOWEST, "xgb": LOWEST}, abs=1e-3)


def test_learned_weights_that_fail_on_the_other_folds_are_left():
    """Each fold is judged with what the others taught; here every fold has another best member."""
    oof, atr_pct = judged(lgbm=1.0, xgb=1.0)
    truth = np.where(oof.y == 1, 1.0, -1.0)
    good, noise = np.clip(truth, -1, 1), np.random.default_rng(0).normal(size=len(truth))
    margins = {
        "lgbm": oof.level + np.where(oof.fold == 0, good, noise),
        "xgb": oof.level + np.where(oof.fold == 0, noise, good * (oof.fold == 1) + noise * (oof.fold == 2)),
    }
    found = choose_weights(OutOfFold(**{**oof.__dict__, "margins": margins}), FOLDS, atr_pct)
    assert not found.is_learned
    assert found.values == WEIGHTS_WITHOUT_LSTM


def test_a_fold_says_nothing_about_the_weights_it_is_judged_with(monkeypatch):
    """What the weights of a fold are learned from lies clear of it by the label's horizon."""
    from kstock_batch.training import weights

    oof, atr_pct = judged(lgbm=1.0, xgb=1.0)
    seen = []
    kept = weights._fitted

    def noted(members, y, start):
        seen.append(len(y))
        return kept(members, y, start)

    monkeypatch.setattr(weights, "_fitted", noted)
    weights.choose_weights(oof, FOLDS, atr_pct)
    block = N_SESSIONS // N_FOLDS
    clear = [2 * block - 5, 2 * block - 10, 2 * block - 5]  # sessions; the middle fold has neighbours on both sides
    assert seen == [n * N_STOCKS for n in clear]


def test_an_lstm_that_helps_at_learned_weights_alone_is_given_those(monkeypatch):
    """At the bot's weights two weak members drown the good one; learned ones are not proven against the bot's here."""
    from kstock_batch.training import weights

    unproven = weights.ChosenWeights(WEIGHTS, False, "the bot's weights")
    monkeypatch.setattr(weights, "_better_of", lambda *_: unproven)
    found = chosen(lgbm=0.1, xgb=4.0, lstm=4.0)
    assert found.is_learned
    assert found.note.startswith("learned weights, with which the LSTM helps: with the bot's own the log-loss out of")
    assert LOWEST - 1e-3 <= found.values["lstm"] < WEIGHTS["lstm"]


@pytest.mark.parametrize("name", ["lgbm", "xgb", "lstm"])
def test_the_only_member_there_is_weighs_one(name):
    found = chosen(**{name: 0.5})
    assert (dict(found.values), found.is_learned, found.note) == ({name: 1.0}, False, f"only {name} is there")


@pytest.mark.parametrize("tree", ["lgbm", "xgb"])
def test_with_one_tree_gone_noise_of_the_lstm_leaves_the_other_alone(tree):
    found = chosen(**{tree: 0.5, "lstm": np.inf})
    assert dict(found.values) == {tree: 1.0, "lstm": 0.0}
    assert found.note.endswith("nothing to learn weights from")


def test_one_fold_cannot_test_what_it_taught():
    oof, atr_pct = judged(lgbm=0.1, xgb=4.0)
    one = Fold(np.arange(0), np.arange(N_SESSIONS))
    found = choose_weights(OutOfFold(**{**oof.__dict__, "fold": np.zeros(len(oof.y))}), (one,), atr_pct)
    assert (found.is_learned, found.values) == (False, WEIGHTS_WITHOUT_LSTM)


def test_start_weights_are_the_bots_scaled_to_one():
    assert start_weights(("lgbm", "xgb", "lstm")) == WEIGHTS
    assert start_weights(("lgbm", "xgb")) == WEIGHTS_WITHOUT_LSTM
    assert start_weights(("xgb", "lstm")) == pytest.approx({"xgb": 0.30 / 0.65, "lstm": 0.35 / 0.65})
    assert start_weights(("lstm",)) == {"lstm": 1.0}
