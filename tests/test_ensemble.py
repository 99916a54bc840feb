"""The blend by name, and members that share one level and differ in where they see a stock stand."""

import json

import numpy as np
import pytest

from kstock_batch.errors import NoMemberScored
from kstock_batch.learners.calibration import parts, sigmoid
from kstock_batch.learners.ensemble import WEIGHTS, CalibratedBlend, blend, with_level

NAN = float("nan")


def test_three_members_are_weighted_35_30_35():
    assert blend({"lgbm": [0.2], "xgb": [0.4], "lstm": [0.6]}) == pytest.approx([0.07 + 0.12 + 0.21])


def test_members_are_matched_by_name_not_by_position():
    assert blend({"lstm": [0.6], "xgb": [0.4], "lgbm": [0.2]}) == pytest.approx([0.4])


def test_without_the_lstm_the_trees_are_weighted_55_45():
    assert blend({"lgbm": [0.2], "xgb": [0.4], "lstm": None}) == pytest.approx([0.11 + 0.18])
    assert blend({"lgbm": [0.2], "xgb": [0.4]}) == pytest.approx([0.29])


def test_without_another_member_the_weights_are_scaled_up():
    assert blend({"lgbm": None, "xgb": [0.4], "lstm": [0.6]}) == pytest.approx([(0.12 + 0.21) / 0.65])
    assert blend({"lgbm": [0.2], "xgb": None, "lstm": [0.6]}) == pytest.approx([0.4])


@pytest.mark.parametrize("name", ["lgbm", "xgb", "lstm"])
def test_a_single_member_is_the_blend(name):
    assert blend({name: [0.3, 0.7]}) == pytest.approx([0.3, 0.7])


def test_absence_is_decided_row_by_row():
    members = {"lgbm": [0.2, 0.2, NAN, NAN, 0.2], "xgb": [0.4, 0.4, 0.4, NAN, NAN], "lstm": [0.6, NAN, 0.6, NAN, NAN]}
    expected = [0.4, 0.29, 0.33 / 0.65, NAN, 0.2]
    np.testing.assert_allclose(blend(members), expected, rtol=1e-12)


def test_an_absent_member_is_not_a_half():
    assert blend({"lgbm": [0.1], "xgb": [0.1], "lstm": None}) == pytest.approx([0.1])


def test_an_lstm_that_says_a_half_counts():
    assert blend({"lgbm": [0.1], "xgb": [0.1], "lstm": [0.5]}) == pytest.approx([0.24])


def test_measured_weights_are_renormalised_without_the_bots_pair():
    weights = {"lgbm": 0.2, "xgb": 0.6, "lstm": 0.2}
    assert blend({"lgbm": [0.1], "xgb": [0.5], "lstm": None}, weights) == pytest.approx([0.4])


def test_weights_read_back_from_a_manifest_are_the_bots_own_again():
    assert blend({"lgbm": [0.2], "xgb": [0.4]}, dict(reversed(WEIGHTS.items()))) == pytest.approx([0.29])


def test_a_row_whose_only_member_weighs_nothing_has_no_prediction():
    assert np.isnan(blend({"lgbm": [0.3], "lstm": [NAN]}, {"lgbm": 0.0, "lstm": 1.0})).all()


def test_the_blend_lies_between_its_members():
    p = np.random.default_rng(0).random((3, 500))
    blended = blend(dict(zip(WEIGHTS, p, strict=True)))
    assert blended.shape == (500,)
    assert ((blended >= p.min(axis=0)) & (blended <= p.max(axis=0))).all()


def test_no_member_at_all_is_an_error_that_names_them():
    with pytest.raises(NoMemberScored, match=r"none of \['lgbm', 'lstm'\] produced scores"):
        blend({"lgbm": None, "lstm": None})


def test_a_member_without_a_weight_is_named():
    with pytest.raises(ValueError, match=r"no weight for members \['catboost'\]"):
        blend({"lgbm": [0.1], "catboost": [0.9]})


# Calibrated


def night(seed: int = 0, n_sessions: int = 40, n_stocks: int = 100):
    """Two members that see the same truth through noise, each at a level of its own; level, outcome and session."""
    rng = np.random.default_rng(seed)
    session = np.repeat(np.arange(n_sessions), n_stocks)
    level = rng.normal(-1.1, 0.3, n_sessions)[session]
    truth = rng.normal(0, 0.8, len(session))
    outcome = (rng.random(len(session)) < sigmoid(level + truth)).astype(np.float64)
    margins = {
        name: away + steep * (truth + rng.normal(0, 0.5, len(session)))
        for name, away, steep in (("lgbm", 5.0, 2.0), ("xgb", 0.0, 1.0))
    }
    return margins, level, outcome, session


def test_a_members_own_level_is_replaced_by_the_sessions():
    margin, session = np.array([4.0, 6.0, -1.0, 1.0]), np.array([1, 1, 2, 2])
    np.testing.assert_allclose(with_level(margin, np.array([-1.0, -1.0, -2.0, -2.0]), session), [-2.0, 0.0, -3.0, -1.0])
    np.testing.assert_allclose(with_level(np.array([4.0, 6.0]), np.array([-1.0, -1.0])), [-2.0, 0.0])


def test_members_that_stand_at_other_levels_give_the_same_probabilities():
    margins, level, outcome, session = night()
    moved = {"lgbm": margins["lgbm"] - 5.0 + np.sin(session), "xgb": margins["xgb"]}
    told = [CalibratedBlend.fit(m, level, outcome, session, WEIGHTS).apply(m, level, session) for m in (margins, moved)]
    for name in margins:
        np.testing.assert_allclose(told[0][0][name], told[1][0][name], rtol=1e-6)
    np.testing.assert_allclose(told[0][1], told[1][1], rtol=1e-6)


def test_the_blend_of_two_that_err_apart_is_better_than_either():
    margins, level, outcome, session = night()
    members, blended = CalibratedBlend.fit(margins, level, outcome, session, WEIGHTS).apply(margins, level, session)
    loss = {name: ((p - outcome) ** 2).mean() for name, p in {**members, "blend": blended}.items()}
    assert loss["blend"] < min(loss["lgbm"], loss["xgb"])
    assert blended.mean() == pytest.approx(outcome.mean(), abs=0.01)


def test_the_mean_log_odds_of_a_member_are_the_level_that_was_given_but_for_its_shift():
    margins, level, outcome, session = night()
    fitted = CalibratedBlend.fit(margins, level, outcome, session, WEIGHTS)
    members, _ = fitted.apply(margins, level, session)
    for name, p in members.items():
        found = parts(np.log(p / (1 - p)), session)[0]
        np.testing.assert_allclose(found, level + fitted.members[name].shift, atol=1e-9)


def test_several_sessions_at_once_equal_one_night_after_the_other():
    margins, level, outcome, session = night()
    fitted = CalibratedBlend.fit(margins, level, outcome, session, WEIGHTS)
    members, blended = fitted.apply(margins, level, session)
    for day in (0, 17, 39):
        here = session == day
        alone, alone_blended = fitted.apply({n: m[here] for n, m in margins.items()}, level[here])
        np.testing.assert_allclose(alone_blended, blended[here], rtol=1e-12)
        np.testing.assert_allclose(alone["xgb"], members["xgb"][here], rtol=1e-12)


def test_a_calibrated_blend_survives_the_manifest():
    margins, level, outcome, session = night()
    fitted = CalibratedBlend.fit(margins, level, outcome, session, {"lgbm": 0.55, "xgb": 0.45})
    manifest = {
        "members": {name: {"calibrator": one.as_json()} for name, one in fitted.members.items()},
        "weights": dict(fitted.weights),
        "blend_calibrator": fitted.blend.as_json(),
    }
    assert CalibratedBlend.from_manifest(json.loads(json.dumps(manifest))) == fitted


def test_a_calibrated_blend_goes_on_without_a_member_and_without_the_members_of_a_row():
    margins, level, outcome, session = night()
    fitted = CalibratedBlend.fit(margins, level, outcome, session, {"lgbm": 0.55, "xgb": 0.45})
    members, blended = fitted.apply({"xgb": margins["xgb"]}, level, session)
    assert list(members) == ["xgb"]
    assert np.corrcoef(blended, members["xgb"])[0, 1] > 0.99
    gap = {name: np.where(np.arange(len(session)) == 3, NAN, margin) for name, margin in margins.items()}
    assert np.flatnonzero(np.isnan(fitted.apply(gap, level, session)[1])).tolist() == [3]
