import numpy as np
import pytest

from kstock_batch.errors import NoMemberScored
from kstock_batch.learners.ensemble import WEIGHTS, blend

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
