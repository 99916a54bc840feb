import json

import numpy as np
import pytest

from kstock_batch.learners.calibration import MIN_SLOPE, Calibrator, even_prior_signal


def drawn(n: int = 20_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Honest probabilities around 0.25 and outcomes drawn from them."""
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(-1.1, 0.8, n)))
    return p, (rng.random(n) < p).astype(np.float32)


def logit(p):
    return np.log(p / (1 - p))


def test_honest_probabilities_are_left_as_they_are():
    calibrator = Calibrator.fit(*drawn())
    assert calibrator.slope == pytest.approx(1, abs=0.05)
    assert calibrator.intercept == pytest.approx(0, abs=0.06)
    assert calibrator.note == ""


def test_overconfidence_and_bias_are_undone():
    p, y = drawn()
    too_sure = 1 / (1 + np.exp(-(2.0 * logit(p) + 0.7)))
    np.testing.assert_allclose(Calibrator.fit(too_sure, y).apply(too_sure), p, atol=0.02)


def test_the_mean_prediction_becomes_the_observed_rate():
    p, y = drawn()
    shifted = p**2
    assert Calibrator.fit(shifted, y).apply(shifted).mean() == pytest.approx(y.mean(), abs=1e-3)


def test_the_fit_is_the_most_likely_one():
    p, y = drawn(3000)
    best = Calibrator.fit(p, y)

    def loss(slope, intercept):
        q = Calibrator(slope, intercept).apply(p)
        return -(y * np.log(q) + (1 - y) * np.log(1 - q)).sum()

    for step in (0.1, -0.1):
        assert loss(best.slope, best.intercept) < loss(best.slope + step, best.intercept)
        assert loss(best.slope, best.intercept) < loss(best.slope, best.intercept + step)


def test_calibration_never_changes_the_order():
    p, y = drawn(1000)
    for outcome in (y, 1 - y):
        calibrated = Calibrator.fit(p, outcome).apply(p)
        np.testing.assert_array_equal(np.argsort(calibrated), np.argsort(p))


def test_a_member_that_ranks_backwards_is_flattened_to_the_base_rate():
    p, y = drawn()
    calibrator = Calibrator.fit(p, 1 - y)
    assert calibrator.slope == MIN_SLOPE
    assert "slope -1.0" in calibrator.note
    calibrated = calibrator.apply(p)
    assert calibrated.mean() == pytest.approx(1 - y.mean(), abs=1e-3)
    assert np.ptp(calibrated) < 0.1


def test_too_few_outcomes_give_the_identity_and_say_so():
    calibrator = Calibrator.fit([0.2] * 199, [0, 1] * 99 + [0])
    assert calibrator == Calibrator(1.0, 0.0, "identity: 199 outcomes, 200 are needed")


def test_outcomes_of_one_kind_give_the_identity_and_say_so():
    assert Calibrator.fit(np.full(300, 0.2), np.zeros(300)).note == "identity: all 300 outcomes are 0"


def test_rows_without_a_score_or_an_outcome_are_left_out():
    p, y = drawn(2000)
    gaps = Calibrator.fit(np.append(p, [np.nan, 0.5]), np.append(y, [1.0, np.nan]))
    assert gaps == Calibrator.fit(p, y)


def test_an_absent_score_stays_absent():
    assert np.isnan(Calibrator(0.9, 0.1).apply([np.nan, 0.3])).tolist() == [True, False]


def test_certain_scores_stay_finite():
    p, y = np.repeat([0.0, 1.0], 200), np.repeat([0.0, 1.0], 200)
    calibrator = Calibrator.fit(p, y)
    calibrated = calibrator.apply([0.0, 0.5, 1.0])
    assert np.isfinite([calibrator.slope, calibrator.intercept]).all()
    assert calibrated == pytest.approx([1 / 202, 0.5, 201 / 202], rel=1e-6)  # Platt's smoothed ends


def test_a_member_that_says_one_number_is_set_to_the_base_rate():
    y = np.repeat([1.0, 0.0, 0.0, 0.0], 100)
    assert Calibrator.fit(np.full(400, 0.5), y).apply([0.5])[0] == pytest.approx(0.25, abs=0.01)
    assert Calibrator.fit(np.full(400, 0.1), y).apply([0.1])[0] == pytest.approx(0.25, abs=0.01)


def test_a_calibrator_survives_the_manifest():
    calibrator = Calibrator.fit(*drawn(500))
    assert Calibrator.from_json(json.loads(json.dumps(calibrator.as_json()))) == calibrator


def test_the_identity_changes_nothing():
    np.testing.assert_allclose(Calibrator().apply([1e-4, 0.24, 0.9]), [1e-4, 0.24, 0.9], rtol=1e-12)


def test_the_base_rate_is_the_middle_of_the_signal():
    assert even_prior_signal([0.24], 0.24)[0] == pytest.approx(0.5)


def test_the_signal_rises_with_the_probability_and_keeps_its_ends():
    signal = even_prior_signal([0.0, 0.1, 0.24, 0.5, 1.0], 0.24)
    assert (np.diff(signal) > 0).all()
    assert signal[[0, -1]].tolist() == [0.0, 1.0]
    assert signal[3] == pytest.approx(0.76)
    assert np.isnan(even_prior_signal([np.nan], 0.24)).all()


@pytest.mark.parametrize("base_rate", [0.0, 1.0, float("nan")])
def test_a_base_rate_that_cannot_be_is_named(base_rate):
    with pytest.raises(ValueError, match=r"base_rate = .* is not between 0 and 1"):
        even_prior_signal([0.3], base_rate)
