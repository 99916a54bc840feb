"""The floors: logistic regressions that agree with scikit-learn's, and know what to do with what they do not know."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from kstock_batch.errors import ModelRefused
from kstock_batch.learners import linear
from kstock_batch.learners.base import Examples, Inputs
from kstock_batch.learners.linear import CLIP, VOLATILITY_COLUMNS, LogisticModel, fit_floors

NAMES = ("atr_pct", "bb_bandwidth", "momentum", "sector_encoded")


def examples(n: int = 4000, seed: int = 1, **columns: np.ndarray) -> Examples:
    """Rises follow log(1 + atr_pct) and momentum; ``columns`` replace drawn ones."""
    rng = np.random.default_rng(seed)
    drawn = {
        "atr_pct": np.exp(rng.normal(1, 0.5, n)),
        "bb_bandwidth": np.exp(rng.normal(-2, 0.4, n)),
        "momentum": rng.normal(3.0, 2.0, n),
        "sector_encoded": rng.integers(0, 5, n).astype(float),
    }
    z = -2.5 + 0.9 * np.log1p(drawn["atr_pct"]) + 0.2 * drawn["momentum"]
    label = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.float32)
    tabular = np.column_stack([(drawn | columns)[name] for name in NAMES]).astype(np.float32)
    inputs = Inputs(tabular, NAMES, ("sector_encoded",), np.zeros((n, 30), np.float32), np.arange(n))
    return Examples(inputs, np.arange(n), label, np.arange(n), label)


def of_sklearn(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Its log-odds of standardised columns, our ridge being its C = 1."""
    standardised = np.clip((x - x.mean(axis=0)) / x.std(axis=0), -CLIP, CLIP)
    return LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(standardised, y).decision_function(standardised)


@pytest.mark.parametrize("is_logarithmic", [False, True])
def test_the_model_is_that_of_scikit_learn(is_logarithmic):
    given = examples()
    ours = LogisticModel.fit(given, VOLATILITY_COLUMNS, is_logarithmic=is_logarithmic)
    x = given.inputs.tabular[:, :2].astype(np.float64)
    theirs = of_sklearn(np.log1p(x) if is_logarithmic else x, given.label)
    np.testing.assert_allclose(ours.margin(given.inputs, given.ends), theirs, atol=1e-4)


def test_the_floors_are_two_columns_and_every_column_that_is_no_code():
    given = examples()
    floors = fit_floors(given)
    assert floors["volatility"].columns == VOLATILITY_COLUMNS and floors["volatility"].is_logarithmic
    assert floors["linear"].columns == ("atr_pct", "bb_bandwidth", "momentum")
    assert list(floors) == list(linear.FLOORS)


def test_a_missing_value_is_the_mean_of_its_column():
    given = examples()
    model = LogisticModel.fit(given, NAMES[:3])
    gap, filled = given.inputs.tabular[:1].copy(), given.inputs.tabular[:1].copy()
    gap[0, 2], filled[0, 2] = np.nan, model.mean[2]
    of_gap, of_filled = (
        model.margin(Inputs(row, NAMES, (), np.zeros((1, 30), np.float32), np.zeros(1)), np.array([0]))
        for row in (gap, filled)
    )
    np.testing.assert_allclose(of_gap, of_filled, atol=1e-6)


def test_columns_with_gaps_are_learnt_from_what_is_known():
    rng = np.random.default_rng(4)
    momentum = examples().inputs.tabular[:, 2].copy()
    momentum[rng.random(len(momentum)) < 0.3] = np.nan
    model = LogisticModel.fit(examples(momentum=momentum), NAMES[:3])
    assert model.mean[2] == pytest.approx(np.nanmean(momentum), rel=1e-5)
    assert model.std[2] == pytest.approx(np.nanstd(momentum), rel=1e-5)
    assert model.weights[2] > 0.1
    assert np.isfinite(model.margin(examples(momentum=momentum).inputs, np.arange(4000))).all()


@pytest.mark.parametrize("value", [7.0, 0.1, np.nan])
def test_a_column_that_says_nothing_changes_nothing(value):
    given = examples(momentum=np.full(4000, value))
    with_it, without = LogisticModel.fit(given, NAMES[:3]), LogisticModel.fit(given, NAMES[:2])
    one, other = (model.margin(given.inputs, given.ends) for model in (with_it, without))
    assert np.isfinite(one).all()
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_fat_tail_is_cut_before_it_decides():
    model = LogisticModel.fit(given := examples(), NAMES[:3])
    tabular = np.repeat(given.inputs.tabular[:1], 2, axis=0)
    tabular[0, 2], tabular[1, 2] = model.mean[2] + CLIP * model.std[2], 1e9
    inputs = Inputs(tabular, NAMES, (), np.zeros((2, 30), np.float32), np.zeros(2))
    cut, far = model.margin(inputs, np.array([0, 1]))
    assert cut == pytest.approx(far, abs=1e-5)


def test_a_model_survives_the_manifest_to_the_bit():
    model = LogisticModel.fit(given := examples(), NAMES[:3])
    back = LogisticModel.from_json(json.loads(json.dumps(model.as_json(), allow_nan=False)))
    np.testing.assert_array_equal(back.margin(given.inputs, given.ends), model.margin(given.inputs, given.ends))


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_outcomes_of_one_kind_leave_the_model_finite(outcome):
    given = examples()
    one_kind = Examples(given.inputs, given.ends, np.full_like(given.label, outcome), given.ends, given.label)
    margin = LogisticModel.fit(one_kind, NAMES[:3]).margin(given.inputs, given.ends)
    assert np.isfinite(margin).all()
    assert ((margin > 5) if outcome else (margin < -5)).all()


def test_chunks_change_nothing(monkeypatch):
    model = LogisticModel.fit(given := examples(500), NAMES[:3])
    whole = model.margin(given.inputs, given.ends)
    monkeypatch.setattr(linear, "CHUNK", 7)
    np.testing.assert_allclose(model.margin(given.inputs, given.ends), whole, rtol=1e-12)


def test_a_column_the_inputs_lack_is_named():
    with pytest.raises(ModelRefused, match=r"a logistic model reads \['beta'\], which the inputs lack"):
        LogisticModel.fit(examples(10), ("atr_pct", "beta"))
