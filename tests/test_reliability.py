"""Reliability: parts that add up, and the market's level told apart from the model's error."""

import numpy as np
import pytest

from kstock_batch.judging.metrics import brier, calibration_error
from kstock_batch.judging.reliability import (
    at_mean,
    brier_parts,
    calibration_verdict,
    reliability_curve,
    shape_error,
)


def market(n_sessions, *, rng, level=0.8, n=300, slope=1.0):
    """Return p, y, session: log odds are right but for a level that whole days share, forecasts ``slope`` as steep."""
    session = np.repeat(np.arange(n_sessions), n)
    odds = rng.normal(-1.2, 0.6, session.size)
    days = np.convolve(rng.normal(0, level, n_sessions + 4), np.ones(5) / 5**0.5, "valid")
    y = (rng.uniform(size=session.size) < 1 / (1 + np.exp(-(odds + days[session])))).astype(float)
    return 1 / (1 + np.exp(-(-1.2 + slope * (odds + 1.2)))), y, session


P, Y, SESSION = market(120, rng=np.random.default_rng(1))


def test_the_curve_is_the_one_the_calibration_error_is_read_off():
    curve = reliability_curve(P, Y)
    assert curve.n.sum() == len(P)
    assert (np.diff(curve.forecast) > 0).all()
    distance = np.abs(curve.forecast - curve.frequency) @ curve.n / len(P)
    assert distance == pytest.approx(calibration_error(P, Y), abs=1e-12)
    assert set(curve.rows()[0]) == {"n", "forecast", "frequency"}


def test_a_curve_worked_out_by_hand():
    curve = reliability_curve(np.array([0.1, 0.2, 0.6, 0.8]), np.array([0.0, 1.0, 1.0, 1.0]), bins=2)
    assert curve.forecast == pytest.approx([0.15, 0.7])
    assert curve.frequency == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("bins", [1, 3, 20, 5000])
def test_the_parts_add_up_to_the_brier_score_exactly(bins):
    rows = np.arange(0, len(P), 11)
    parts = brier_parts(P[rows], Y[rows], bins)
    assert parts.brier() == pytest.approx(brier(P[rows], Y[rows]), abs=1e-14)


def test_parts_of_probabilities_that_are_constant_within_bins_are_murphys():
    p, y = np.repeat([0.2, 0.6], 50), np.r_[np.ones(10), np.zeros(40), np.ones(20), np.zeros(30)]
    parts = brier_parts(p, y, bins=2)
    assert (parts.within_variance, parts.within_covariance) == pytest.approx((0, 0), abs=1e-15)
    assert parts.reliability == pytest.approx(0.5 * 0.2**2)
    assert parts.resolution == pytest.approx(0.1**2)
    assert parts.uncertainty == pytest.approx(0.3 * 0.7)


@pytest.mark.parametrize("mean", [0.001, 0.3, 0.97])
def test_odds_are_moved_to_any_mean_and_keep_their_order(mean):
    moved = at_mean(P, mean)
    assert moved.mean() == pytest.approx(mean, abs=1e-9)
    assert (np.argsort(moved, kind="stable") == np.argsort(P, kind="stable")).all()
    assert at_mean(np.array([0.0, 1.0, 0.5]), mean).mean() == pytest.approx(mean, abs=1e-6)


def test_a_wrong_level_is_no_error_of_the_shape():
    moved = at_mean(P, 0.5)
    assert calibration_error(moved, Y) > 0.15
    assert shape_error(moved, Y) == pytest.approx(shape_error(P, Y), abs=1e-9)


def test_an_outcome_that_never_came_true_has_no_shape():
    assert shape_error(P, np.zeros_like(Y)) == 0


def test_days_explain_the_error_of_an_honest_model_and_not_that_of_an_overconfident_one():
    rng = np.random.default_rng(7)
    honest = [calibration_verdict(*market(70, rng=rng)) for _ in range(20)]
    steep = [calibration_verdict(*market(70, rng=rng, slope=2)) for _ in range(20)]
    assert np.mean([found.mean_is_luck for found in honest]) >= 0.9
    assert max(found.beyond_luck for found in honest) < 0.025
    assert min(found.beyond_luck for found in steep) > 0.04
    plain = [calibration_error(p, y) for p, y, _ in (market(70, rng=rng) for _ in range(20))]
    assert max(plain) > 0.04, "the market's luck alone would refuse a model by its plain calibration error"


def test_a_mean_far_off_is_not_luck():
    found = calibration_verdict(at_mean(P, Y.mean() + 0.25), Y, SESSION)
    assert found.mean_error == pytest.approx(0.25, abs=1e-9)
    assert not found.mean_is_luck


def test_two_sessions_are_judged_without_a_warning():
    rows = SESSION < 2
    assert calibration_verdict(P[rows], Y[rows], SESSION[rows]).mean_is_luck
