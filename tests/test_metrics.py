"""Metrics against values worked out by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from kstock_batch.training.metrics import auc, auc_by_session, brier, calibration_error, log_loss, skill

RNG = np.random.default_rng(5)
P = RNG.uniform(0.05, 0.95, 4000).round(2)  # rounded: ties
Y = (RNG.uniform(size=4000) < P**1.5).astype(float)


def test_auc_log_loss_and_brier_agree_with_scikit_learn():
    assert auc(P, Y) == pytest.approx(roc_auc_score(Y, P), abs=1e-12)
    assert log_loss(P, Y) == pytest.approx(sklearn_log_loss(Y, P), abs=1e-12)
    assert brier(P, Y) == pytest.approx(brier_score_loss(Y, P), abs=1e-12)


def test_auc_of_one_class_has_no_meaning():
    assert np.isnan(auc(P, np.ones_like(P)))


def test_auc_within_sessions_is_not_fooled_by_levels_that_differ_between_sessions():
    session = np.repeat([1, 2], 100)
    y = np.concatenate([np.r_[np.ones(80), np.zeros(20)], np.r_[np.ones(20), np.zeros(80)]])
    p = np.where(session == 1, 0.8, 0.2)
    assert auc(p, y) > 0.75
    assert auc_by_session(p, y, session) == pytest.approx(0.5)


def test_the_mean_over_sessions_is_the_mean_of_their_aucs():
    session = RNG.permutation(np.repeat(np.arange(8), 500))
    expected = np.mean([roc_auc_score(Y[session == s], P[session == s]) for s in range(8)])
    assert auc_by_session(P, Y, session) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_is_zero_for_frequencies_and_the_distance_otherwise():
    y = np.tile([1.0, 0.0, 0.0, 0.0], 1000)
    assert calibration_error(np.full(4000, 0.25), y) == pytest.approx(0, abs=1e-12)
    assert calibration_error(np.full(4000, 0.35), y) == pytest.approx(0.10)


def test_always_saying_the_base_rate_has_no_brier_skill():
    found = skill(np.full(4000, Y.mean()), Y, np.zeros(4000, dtype=np.int64), Y.mean())
    assert found.brier_skill_pct == pytest.approx(0, abs=1e-9)
    assert found.auc == 0.5
