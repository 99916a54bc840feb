"""Contributions against those both libraries compute themselves, and how they are told."""

import json
import subprocess
import sys
from dataclasses import replace

import lightgbm as lgb
import numpy as np
import pytest
import xgboost as xgb

from kstock_batch.errors import ModelRefused
from kstock_batch.learners import contributions as module
from kstock_batch.learners.boosting import BoostingRecipe
from kstock_batch.learners.calibration import Calibrator
from kstock_batch.learners.contributions import contributions
from kstock_batch.learners.ensemble import CalibratedBlend
from kstock_batch.learners.explain import explain, top3, top3_json
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.learners.path_groups import MAX_BITS, group, walk
from kstock_batch.learners.tree_paths import lightgbm_trees, xgboost_trees
from kstock_batch.learners.xgb import XgbMember
from test_inputs import problem

N_COLUMNS, SECTOR, FEW_VALUES = 16, 3, 5
N_TRAINED, N_SCORED = 3000, 301


def market(n_rows, seed):
    """Return rows with NaN, exact zeros, a column of few values, a code (some unheard of in training), and labels."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, N_COLUMNS)).astype(np.float32)
    rows[:, FEW_VALUES] = rng.integers(-2, 3, n_rows)
    rows[:, SECTOR] = rng.integers(0, 40 if seed else 30, n_rows)
    signal = np.nan_to_num(rows[:, 0] * rows[:, 1] + rows[:, 2]) + np.sin(rows[:, SECTOR] * 7) + rows[:, FEW_VALUES] / 2
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[:, 6][rng.random(n_rows) < 0.3] = 0
    return rows, (rng.random(n_rows) < 1 / (1 + np.exp(1 - signal))).astype(np.float32)


ROWS, LABEL = market(N_TRAINED, seed=0)
SCORED = market(N_SCORED, seed=1)[0]
TYPES = ["c" if column == SECTOR else "q" for column in range(N_COLUMNS)]


def lightgbm_booster(rounds=30, label=LABEL, rows=ROWS, **own):
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1, "seed": 1, "min_data_per_group": 5} | own
    data = lgb.Dataset(rows, label=np.ascontiguousarray(label), categorical_feature=[SECTOR])
    return lgb.train(parameters, data, num_boost_round=rounds)


def xgboost_booster(rounds=30, **own):
    parameters = {"objective": "binary:logistic", "nthread": 1, "seed": 1, "max_depth": 5, "verbosity": 0} | own
    return xgb.train(parameters, matrix(ROWS, label=LABEL), num_boost_round=rounds)


def matrix(rows, **own):
    return xgb.DMatrix(rows, feature_types=TYPES, enable_categorical=True, nthread=1, **own)


def native(booster, rows):
    """Return the library's own (contributions, bias, margin)."""
    rows = np.ascontiguousarray(rows)
    if isinstance(booster, lgb.Booster):
        told, margin = booster.predict(rows, pred_contrib=True), booster.predict(rows, raw_score=True)
    else:
        told, margin = (
            booster.predict(matrix(rows), pred_contribs=True),
            booster.predict(matrix(rows), output_margin=True),
        )
    return told[:, :-1], told[:, -1], margin


def require_equal(booster, rows=SCORED):
    is_lightgbm = isinstance(booster, lgb.Booster)
    trees = lightgbm_trees(booster.model_to_string()) if is_lightgbm else xgboost_trees(booster)
    ours, (by_column, bias, margin) = contributions(trees, rows), native(booster, rows)
    tolerance = 1e-10 if is_lightgbm else 1e-5  # XGBoost computes in float32
    assert ours.by_column.shape == rows.shape and ours.by_column.dtype == np.float64
    np.testing.assert_allclose(ours.by_column, by_column, rtol=0, atol=tolerance)
    np.testing.assert_allclose(ours.bias, bias, rtol=0, atol=tolerance)
    np.testing.assert_allclose(ours.by_column.sum(axis=1) + ours.bias, margin, rtol=0, atol=tolerance)
    return trees


def most_bits(trees):
    return max(alike.bits.shape[1] for alike in group(trees, walk(trees)))


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"num_leaves": 63, "min_data_in_leaf": 5},
        {"zero_as_missing": True},
        {"use_missing": False},
        {"num_leaves": 4, "bagging_fraction": 0.5, "bagging_freq": 1},
        {"boost_from_average": False, "max_cat_to_onehot": 40},
    ],
    ids=str,
)
def test_contributions_are_those_of_lightgbm(own):
    trees = require_equal(lightgbm_booster(**own))
    assert (trees.codes >= 0).any()
    assert trees.zero_missing.any() == own.get("zero_as_missing", False)


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"max_depth": 0, "max_leaves": 63, "grow_policy": "lossguide", "min_child_weight": 0.5},
        {"max_cat_to_onehot": 40, "max_depth": 3},
        {"base_score": 0.2, "eta": 0.05},
        {"max_depth": 1},
    ],
    ids=str,
)
def test_contributions_are_those_of_xgboost(own):
    trees = require_equal(xgboost_booster(**own))
    assert (trees.codes >= 0).any()


def test_a_path_of_more_features_than_a_table_holds_is_exact_too():
    trees = require_equal(lightgbm_booster(num_leaves=200, min_data_in_leaf=2, feature_fraction_bynode=0.2))
    assert most_bits(trees) > module.MAX_TABLE_BITS > MAX_BITS


def test_rows_of_nothing_and_rows_on_the_thresholds_are_sent_where_the_library_sends_them():
    blank = np.full((3, N_COLUMNS), np.nan, dtype=np.float32)
    for booster, trees in (
        (b := lightgbm_booster(), lightgbm_trees(b.model_to_string())),
        (b := xgboost_booster(), xgboost_trees(b)),
    ):
        is_number = (trees.left >= 0) & (trees.codes < 0) & np.isfinite(trees.threshold)
        on = np.repeat(SCORED[:1], 2 * is_number.sum(), axis=0)
        at = trees.threshold[is_number]
        both = np.concatenate([at, np.nextafter(at, np.float32(np.inf))])  # the last that goes left, the first that not
        on[np.arange(len(on)), np.tile(trees.feature[is_number], 2)] = both
        require_equal(booster, np.concatenate([blank, on]))


def test_one_split_shares_out_by_hand():
    rows = np.zeros((100, N_COLUMNS), dtype=np.float32)
    rows[:, 0] = np.arange(100) >= 75
    booster = lightgbm_booster(1, rows=rows, label=rows[:, 0], min_data_in_leaf=5, boost_from_average=False)
    two = np.ascontiguousarray(rows[[0, 99]])
    low, high = booster.predict(two, raw_score=True)

    ours = contributions(lightgbm_trees(booster.model_to_string()), two)

    assert ours.bias == pytest.approx(0.75 * low + 0.25 * high)
    assert ours.by_column[:, 0] == pytest.approx([low - ours.bias, high - ours.bias])
    assert not ours.by_column[:, 1:].any()


def test_a_tree_of_a_single_leaf_is_all_bias():
    same = np.ones(N_TRAINED, dtype=np.float32)
    same[:2] = 0
    require_equal(lightgbm_booster(5, label=same, min_data_in_leaf=N_TRAINED))
    require_equal(xgboost_booster(5, min_child_weight=1e6))


def test_a_booster_without_trees_contributes_nothing():
    ours = contributions(xgboost_trees(xgboost_booster(0, base_score=0.2)), SCORED)
    assert ours.bias == pytest.approx(np.log(0.2 / 0.8)) and not ours.by_column.any()


@pytest.mark.parametrize("booster", [lightgbm_booster, xgboost_booster])
def test_no_rows_have_no_contributions(booster):
    trained = booster(3)
    trees = lightgbm_trees(trained.model_to_string()) if booster is lightgbm_booster else xgboost_trees(trained)
    assert contributions(trees, SCORED[:0]).by_column.shape == (0, N_COLUMNS)
    assert contributions(trees, SCORED[:0]).bias == contributions(trees, SCORED[:1]).bias


def test_a_row_alone_says_what_it_says_among_others(monkeypatch):
    trees = lightgbm_trees(lightgbm_booster().model_to_string())
    together = contributions(trees, SCORED).by_column
    monkeypatch.setattr(module, "BLOCK_ROWS", 50)
    np.testing.assert_array_equal(contributions(trees, SCORED).by_column, together)
    np.testing.assert_array_equal(contributions(trees, SCORED[7:8]).by_column, together[7:8])


def test_rows_that_are_not_float32_of_the_models_columns_are_an_error():
    trees = lightgbm_trees(lightgbm_booster(1).model_to_string())
    for rows in (SCORED.astype(np.float64), SCORED[:, 1:]):
        with pytest.raises(ValueError, match=r"rows are float\d\d \(301, 1\d\), not float32 \(N, 16\)"):
            contributions(trees, rows)


def test_a_model_whose_trees_are_no_log_odds_is_refused():
    with pytest.raises(ModelRefused, match=r"LightGBM model without contributions.* objective=binary"):
        lightgbm_trees(lightgbm_booster(1, objective="regression").model_to_string())
    with pytest.raises(ModelRefused, match="one tree of constant leaves"):
        lightgbm_trees(lightgbm_booster(1, linear_tree=True).model_to_string())
    with pytest.raises(ModelRefused, match=r"XGBoost model without contributions.* objective=binary:logistic"):
        xgboost_trees(xgboost_booster(1, objective="reg:squarederror"))


@pytest.fixture(scope="module")
def session():
    """Both tree members and one who is none, what they say of one session's rows, and a blend that says it too."""
    planted = problem(signal=1.5)
    recipe = BoostingRecipe(rounds=20, seed=1, threads=1)
    members = {kind.name: kind.fit(planted.examples, recipe) for kind in (LgbmMember, XgbMember)}
    inputs, ends = planted.examples.inputs, planted.later_ends
    margins = {name: member.margin(inputs, ends) for name, member in members.items()}
    margins["lstm"] = np.sin(np.arange(len(ends)))
    calibrators = {"lgbm": Calibrator(0.8, 0.1), "xgb": Calibrator(1.3, -0.2), "lstm": Calibrator(5.0, 0.5)}
    blend = CalibratedBlend(calibrators, {"lgbm": 0.5, "xgb": 0.2, "lstm": 0.3}, Calibrator())
    return members | {"lstm": object()}, margins, blend, inputs, ends


def told_logits(margins, blend):
    """Return each member's calibrated logit as the night computes it, for a session whose level is -1.2."""
    calibrated, _ = blend.apply(margins, np.full(len(margins["lgbm"]), -1.2))
    return {name: np.log(p / (1 - p)) for name, p in calibrated.items()}


def test_a_rows_contributions_add_up_to_how_far_the_trees_place_it_from_the_sessions_level(session):
    members, margins, blend, inputs, ends = session
    by_column = explain(members, blend, inputs.tabular[ends])

    told = told_logits(margins, blend)
    level = -1.2 + (0.5 * 0.1 + 0.2 * -0.2) / 0.7  # of the session, and what calibration shifts it by
    expected = (0.5 * told["lgbm"] + 0.2 * told["xgb"]) / 0.7 - level
    np.testing.assert_allclose(by_column.sum(axis=1), expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1
    np.testing.assert_allclose(by_column.mean(axis=0), 0, atol=1e-12)  # the session as a whole does not stand out
    first = top3(by_column, inputs.tabular_names)
    assert np.mean([row[0][0].startswith("return_3m_pct") for row in first]) > 0.5


def test_one_tree_member_alone_speaks_for_all_trees(session):
    members, margins, blend, inputs, ends = session
    expected = told_logits(margins, blend)["xgb"] - (-1.2 - 0.2)
    alone = explain({"xgb": members["xgb"], "lstm": members["lstm"]}, blend, inputs.tabular[ends])
    np.testing.assert_allclose(alone.sum(axis=1), expected, rtol=0, atol=1e-5)
    weightless = replace(blend, weights={"lgbm": 0.0, "xgb": 0.2, "lstm": 0.8})
    np.testing.assert_array_equal(explain(members, weightless, inputs.tabular[ends]), alone)


def test_where_no_tree_has_weight_nothing_is_told_and_nothing_fails(session):
    members, _, blend, inputs, ends = session
    rows = inputs.tabular[ends]
    no_weight = replace(blend, weights={"lgbm": 0.0, "xgb": 0.0, "lstm": 1.0})
    for told in (explain(members, no_weight, rows), explain({"lstm": members["lstm"]}, blend, rows)):
        assert told.shape == (len(rows), 0)
        assert top3_json(told, inputs.tabular_names) == ["[]"] * len(rows)
    assert explain(members, blend, rows[:0]).shape == (0, rows.shape[1])
    assert not explain(members, blend, rows[:1]).any()  # a stock alone is its own session's level


def test_what_is_no_number_is_never_told():
    with pytest.raises(ValueError, match="not JSON compliant"):
        top3_json(np.array([[np.nan, 0.1]]), ("rsi", "per"))


def test_the_three_largest_come_first_with_their_sign():
    by_column = np.array([[0.1, -0.45678, 0.2, 0.3], [0.0, 0.00001, -0.00002, 0.0], [0.5, -0.5, 0.5, 0.6]])
    assert top3(by_column, ("rsi", "per", "roe", "atr_pct")) == [
        [("per", -0.4568), ("atr_pct", 0.3), ("roe", 0.2)],
        [("roe", 0.0), ("per", 0.0), ("rsi", 0.0)],
        [("atr_pct", 0.6), ("rsi", 0.5), ("per", -0.5)],
    ]


def test_the_three_are_told_in_json_without_a_negative_zero():
    text = top3_json(np.array([[0.25, -0.1, -0.00001]]), ("rsi", "per", "roe"))
    assert text == ['[["rsi", 0.25], ["per", -0.1], ["roe", 0.0]]']
    assert json.loads(text[0])[0] == ["rsi", 0.25]


def test_fewer_than_three_columns_or_no_rows_are_told_as_they_are():
    assert top3(np.array([[1.0]]), ("rsi",)) == [[("rsi", 1.0)]]
    assert top3(np.empty((0, 4)), ("rsi", "per", "roe", "atr_pct")) == []


@pytest.mark.parametrize(("member", "other"), [("lgbm", "xgboost"), ("xgb", "lightgbm")])
def test_a_tree_member_is_explained_without_the_other_ones_library(member, other):
    asked = f"import sys; sys.modules[{other!r}] = None; from kstock_batch.learners import {member}, explain"
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
