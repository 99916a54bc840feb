"""From log-odds to probabilities: the slope is fitted inside sessions, the level moves as far as sessions prove."""

import json

import numpy as np
import pytest

from kstock_batch.learners.calibration import (
    MIN_SLOPE,
    Calibrator,
    even_prior_signal,
    logit,
    loss_in_sessions,
    parts,
    session_offset,
    sigmoid,
)

N_SESSIONS, N_STOCKS = 60, 200


def drawn(
    n_sessions: int = N_SESSIONS, n_stocks: int = N_STOCKS, *, luck: float = 0.0, moved: float = 0.0, seed: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Honest log-odds around -1.1, outcomes drawn from them, sessions; days are lucky together, all moved by ``moved``.

    The luck of the days is centred: it moves single days and not their mean.
    """
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(n_sessions), n_stocks)
    z = rng.normal(-1.1, 0.3, n_sessions)[session] + rng.normal(0, 0.8, len(session))
    day = rng.normal(size=n_sessions)
    day = luck * (day - day.mean())
    outcome = (rng.random(len(z)) < sigmoid(z + day[session] + moved)).astype(np.float32)
    return z, outcome, session


def test_honest_log_odds_are_left_as_they_are():
    calibrator = Calibrator.fit(*drawn())
    assert calibrator.slope == pytest.approx(1, abs=0.05)
    assert calibrator.shift == pytest.approx(0, abs=0.05)
    assert calibrator.note == ""


def test_overconfidence_is_undone_around_the_level_of_the_session():
    z, y, session = drawn()
    level, standing = parts(z, session)
    calibrated = Calibrator.fit(level + 2.0 * standing, y, session).apply(level + 2.0 * standing, session)
    np.testing.assert_allclose(calibrated, sigmoid(z), atol=0.02)


def with_an_intercept_for_each_session(z: np.ndarray, y: np.ndarray, session: np.ndarray) -> float:
    """The most likely slope by brute force: a dense logistic regression with one column for each session."""
    columns = np.column_stack([z, session[:, None] == np.unique(session)]).astype(np.float64)
    weights = np.zeros(columns.shape[1])
    for _ in range(12):
        p = 1 / (1 + np.exp(-columns @ weights))
        weights += np.linalg.solve((columns * (p * (1 - p))[:, None]).T @ columns, columns.T @ (y - p))
    return float(weights[0])


@pytest.mark.parametrize("luck", [0.0, 1.0])
def test_the_slope_is_the_most_likely_one_with_an_intercept_for_each_session(luck):
    z, y, session = drawn(20, 80, luck=luck)
    for steepness in (0.5, 1.0, 3.0):
        expected = with_an_intercept_for_each_session(steepness * z, y, session)
        assert Calibrator.fit(steepness * z, y, session).slope == pytest.approx(expected, rel=2e-3)


def test_the_luck_of_whole_days_does_not_move_the_slope():
    slopes = [Calibrator.fit(*drawn(luck=luck)).slope for luck in (0.0, 2.0)]
    assert slopes == pytest.approx([1.0, 1.0], abs=0.08)


def test_levels_that_know_the_day_do_not_move_the_slope_either():
    """A member whose level moves with the outcome of the day (or against it) is no better a judge of stocks."""
    z, y, session = drawn(luck=1.0)
    of_day = session_offset(y, session)
    slopes = [Calibrator.fit(z + told * of_day, y, session).slope for told in (-1.0, 0.0, 1.0)]
    assert slopes == pytest.approx([slopes[1]] * 3, abs=1e-9)


def test_a_shift_on_which_many_sessions_agree_is_believed_nearly_whole():
    assert Calibrator.fit(*drawn(600, moved=0.4)).shift == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize("n_sessions", [10, 12, 25])
@pytest.mark.parametrize("seed", range(4))
def test_a_shift_that_few_lucky_sessions_show_is_hardly_believed(n_sessions, seed):
    z, y, session = drawn(n_sessions, luck=1.0, moved=0.4, seed=seed)
    raw = float(logit(y.mean()) - logit(sigmoid(z).mean()))
    assert raw > 0.2
    assert abs(Calibrator.fit(z, y, session).shift) < 0.35 * raw


def test_the_more_sessions_agree_the_further_the_level_moves():
    believed = [Calibrator.fit(*drawn(n, luck=0.5, moved=0.4)).shift for n in (12, 120, 1200)]
    assert believed == sorted(believed)
    assert believed[0] < 0.1 < 0.3 < believed[2]


@pytest.mark.parametrize("backwards", [False, True])
def test_calibration_never_changes_the_order_inside_a_session(backwards):
    z, y, session = drawn(20, 60)
    calibrated = Calibrator.fit(z, 1 - y if backwards else y, session).apply(z, session)
    for day in range(20):
        here = session == day
        np.testing.assert_array_equal(np.argsort(calibrated[here]), np.argsort(z[here]))


def test_a_member_that_ranks_backwards_is_flattened_to_its_level():
    z, y, session = drawn()
    calibrator = Calibrator.fit(-z, y, session)
    assert calibrator.slope == MIN_SLOPE
    assert "flattened: the fitted slope -" in calibrator.note
    calibrated = calibrator.apply(-z, session)
    assert max(np.ptp(calibrated[session == day]) for day in range(N_SESSIONS)) < 0.1


def test_too_few_outcomes_give_the_identity_and_say_so():
    few = Calibrator.fit(np.full(199, -1.0), [0, 1] * 99 + [0], np.arange(199))
    assert few == Calibrator(1.0, 0.0, "identity: 199 outcomes of 199 sessions, 200 of 10 needed")
    short = Calibrator.fit(*drawn(9, 100))
    assert short == Calibrator(1.0, 0.0, "identity: 900 outcomes of 9 sessions, 200 of 10 needed")
    none = Calibrator.fit([], [], np.empty(0, dtype=np.int64))
    assert none.note == "identity: 0 outcomes of 0 sessions, 200 of 10 needed"


def test_outcomes_of_one_kind_give_the_identity_and_say_so():
    session = np.repeat(np.arange(30), 10)
    assert Calibrator.fit(np.full(300, -1.0), np.zeros(300), session).note == "identity: all 300 outcomes are 0"


@pytest.mark.parametrize("steepness", [0.01, 3.0, 10.0])
def test_a_member_of_any_steepness_is_brought_to_the_same_slope(steepness):
    """From a slope of 1 Newton's steps led ever further away: to 10¹² for the member three times too steep."""
    z, y, session = drawn(luck=1.0)
    expected = Calibrator.fit(z, y, session).slope
    assert Calibrator.fit(steepness * z, y, session).slope * steepness == pytest.approx(expected, rel=1e-3)


def test_sessions_on_which_everything_fell_leave_the_fit_finite():
    z, y, session = drawn()
    y[session < 20] = 0
    y[(session >= 20) & (session < 25)] = 1
    calibrator = Calibrator.fit(z, y, session)
    assert calibrator.slope == pytest.approx(1, abs=0.1)
    assert abs(calibrator.shift) < 0.5


def test_rows_without_a_score_or_an_outcome_are_left_out():
    z, y, session = drawn(20, 50)
    gaps = Calibrator.fit(np.append(z, [np.nan, 0.5]), np.append(y, [1.0, np.nan]), np.append(session, [3, 999]))
    assert gaps == Calibrator.fit(z, y, session)


def test_an_absent_score_stays_absent_and_moves_nobody_else():
    calibrator = Calibrator(0.9, 0.1)
    seen = calibrator.apply([np.nan, -1.0, 0.5])
    assert np.isnan(seen).tolist() == [True, False, False]
    np.testing.assert_array_equal(seen[1:], calibrator.apply([-1.0, 0.5]))
    assert np.isnan(calibrator.apply([np.nan, np.nan])).all()
    assert calibrator.apply([]).shape == (0,)


def test_several_sessions_at_once_equal_one_after_the_other():
    z, _y, session = drawn(15, 40)
    calibrator = Calibrator(0.7, -0.1)
    together = calibrator.apply(z, session)
    for day in range(15):
        np.testing.assert_allclose(together[session == day], calibrator.apply(z[session == day]), rtol=1e-12)


def test_certain_scores_stay_finite():
    session = np.tile(np.arange(20), 20)
    y = np.repeat([0.0, 1.0], 200)
    calibrator = Calibrator.fit(logit(y), y, session)
    assert np.isfinite([calibrator.slope, calibrator.shift]).all()
    calibrated = calibrator.apply(logit([0.0, 0.5, 1.0]))
    assert ((calibrated >= 0) & (calibrated <= 1)).all()
    assert (np.diff(calibrated) > 0).all()


def test_a_member_that_says_one_number_is_moved_towards_what_came_true():
    session = np.tile(np.arange(2000), 40)
    y = np.random.default_rng(0).random(80_000) < 0.25
    assert Calibrator.fit(np.zeros(80_000), y, session).apply([0.0])[0] == pytest.approx(0.25, abs=0.06)
    assert Calibrator.fit(np.full(80_000, -2.0), y, session).apply([-2.0])[0] == pytest.approx(0.25, abs=0.04)


def test_a_calibrator_survives_the_manifest():
    calibrator = Calibrator.fit(*drawn(20, 50))
    assert Calibrator.from_json(json.loads(json.dumps(calibrator.as_json()))) == calibrator


def test_the_identity_changes_nothing():
    p = np.array([1e-4, 0.24, 0.9])
    np.testing.assert_allclose(Calibrator().apply(logit(p)), p, rtol=1e-12)


# The level and the standing


def test_parts_are_the_mean_of_the_session_and_the_way_from_it():
    level, standing = parts(np.array([1.0, 3.0, np.nan, -2.0]), np.array([7, 7, 7, 9]))
    np.testing.assert_array_equal(level, [2.0, 2.0, 2.0, -2.0])
    np.testing.assert_array_equal(standing, [-1.0, 1.0, np.nan, 0.0])


def test_a_session_offset_is_how_far_its_rate_lies_from_the_mean_rate():
    y = np.repeat([1.0, 0.0, 1.0, 0.0], [300, 100, 100, 300])  # 75 % on one day, 25 % on the other
    offset = session_offset(y, np.repeat([3, 8], 400))
    np.testing.assert_allclose(offset[[0, -1]], [np.log(3), -np.log(3)], atol=0.03)
    assert len(np.unique(offset)) == 2


def test_the_offset_of_a_day_on_which_everything_rose_or_fell_is_finite():
    offset = session_offset(np.repeat([1.0, 0.0], 50), np.repeat([1, 2], 50))
    assert np.isfinite(offset).all()
    assert offset[0] > 2 and offset[-1] < -2


def test_the_loss_in_sessions_does_not_know_the_level_of_a_day():
    z, y, session = drawn(20, 100, luck=0.5)
    moved = z + np.random.default_rng(2).normal(0, 0.5, 20)[session]
    assert loss_in_sessions(moved, y, session) == pytest.approx(loss_in_sessions(z, y, session), abs=2e-4)


def test_the_loss_in_sessions_prefers_who_tells_stocks_apart():
    z, y, session = drawn(20, 100)
    level, standing = parts(z, session)
    knowing, flat, backwards = (loss_in_sessions(level + slope * standing, y, session) for slope in (1.0, 0.0, -1.0))
    assert knowing < flat - 0.02 < backwards


# The scale that the bot expects


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
