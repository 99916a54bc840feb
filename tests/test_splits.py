"""Splits by session: no label of a training row ends in a block that judges it, and a leak would be seen."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstock_batch.errors import NotEnoughHistory
from kstock_batch.features.windows import BarRows
from kstock_batch.judging.metrics import auc
from kstock_batch.learners.base import Inputs
from kstock_batch.learners.boosting import BoostingRecipe
from kstock_batch.learners.lgbm import LgbmMember
from kstock_batch.settings import Settings
from kstock_batch.training.budget import Budget
from kstock_batch.training.dataset import LabelledRows
from kstock_batch.training.fitting import Fitter
from kstock_batch.training.out_of_fold import out_of_fold
from kstock_batch.training.splits import (
    MIN_BLOCK,
    Fold,
    last_folds,
    purged_from,
    require_purged,
    stop_split,
    walk_forward,
)


@given(
    n=st.integers(1, 400),
    train=st.integers(1, 120),
    test=st.integers(1, 60),
    horizon=st.integers(0, 10),
    embargo=st.integers(0, 10),
)
def test_walk_forward_labels_end_before_the_test_block_begins(n, train, test, horizon, embargo):
    folds = list(walk_forward(n, train=train, test=test, horizon=horizon, embargo=embargo))
    for fold in folds:
        assert fold.train.max() + horizon + embargo < fold.test.min()
        assert fold.train.min() >= 0
        assert fold.test.max() < n
    tested = np.concatenate([fold.test for fold in folds]) if folds else np.empty(0)
    assert len(np.unique(tested)) == len(tested), "no session is tested twice"


@given(
    n=st.integers(1, 1500),
    n_folds=st.integers(1, 5),
    share=st.floats(0.05, 0.6),
    horizon=st.integers(0, 10),
    embargo=st.integers(0, 10),
)
def test_last_folds_judge_every_late_session_once_and_learn_from_what_precedes_it(n, n_folds, share, horizon, embargo):
    try:
        folds = last_folds(n, n_folds=n_folds, validation_share=share, horizon=horizon, embargo=embargo)
    except NotEnoughHistory as error:
        assert f"{n} sessions" in str(error)
        return
    judged = np.concatenate([fold.test for fold in folds])
    np.testing.assert_array_equal(judged, np.arange(n - round(n * share), n))
    assert len(folds) == n_folds
    for fold in folds:
        np.testing.assert_array_equal(fold.train, np.arange(fold.test.min() - horizon - embargo))
        assert min(len(fold.train), len(fold.test)) >= MIN_BLOCK
        require_purged(fold, horizon + embargo)


@given(n=st.integers(MIN_BLOCK, 400), first=st.integers(0, 50), share=st.floats(0.01, 0.5), horizon=st.integers(0, 10))
def test_the_stopping_block_is_the_end_of_what_is_learnt_from_and_purged(n, first, share, horizon):
    train = np.arange(first, first + n)
    try:
        fold = stop_split(train, share=share, horizon=horizon)
    except NotEnoughHistory as error:
        assert f"{n} sessions leave" in str(error)
        return
    assert fold.test[-1] == train[-1]
    assert len(fold.test) == max(1, round(n * share))
    assert fold.train[0] == train[0]
    assert fold.train.max() + horizon + 1 == fold.test.min()


@given(n=st.integers(1, 300), data=st.data(), horizon=st.integers(0, 10))
def test_purged_positions_share_no_session_with_the_labels_of_the_block(n, data, horizon):
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first, n - 1))
    kept = purged_from(np.arange(n), Fold(np.arange(0), np.arange(first, last + 1)), horizon)
    spanned = set(range(first, last + horizon + 1))  # sessions that a judged row or its label touches
    for position in range(n):
        label = set(range(position, position + horizon + 1))
        assert (position in kept) == (not label & spanned), "neither more nor less than what overlaps is dropped"


@given(last=st.integers(0, 100), gap=st.integers(-5, 20), horizon=st.integers(0, 10))
def test_a_fold_is_refused_exactly_if_a_label_ends_in_its_block(last, gap, horizon):
    fold = Fold(np.arange(last + 1), np.arange(last + gap, last + gap + 30))
    if gap > horizon:
        require_purged(fold, horizon)
    else:
        with pytest.raises(ValueError, match=rf"session {last} ends {horizon} sessions later.*that is leakage"):
            require_purged(fold, horizon)


def test_too_few_sessions_are_refused_with_the_number_there_are():
    with pytest.raises(
        NotEnoughHistory, match=r"50 sessions with known outcomes leave a block of 10 .* each of 2 folds"
    ):
        last_folds(50, n_folds=2, validation_share=0.4, horizon=5)
    with pytest.raises(NotEnoughHistory, match="25 sessions leave 16 to learn from"):
        stop_split(np.arange(25), share=0.15, horizon=5)


# A planted leak: labels that are pure noise but overlap from day to day, and a column that says where a row is.

N_TICKERS, N_SESSIONS, HORIZON, CHUNK = 60, 120, 5, 5


def noise_rows(seed: int = 5) -> LabelledRows:
    """Labels say whether five days of pure noise add up to much; ``address`` names (ticker, five sessions)."""
    rng = np.random.default_rng(seed)
    daily = rng.normal(size=(N_TICKERS, N_SESSIONS + HORIZON))
    ahead = np.stack([daily[:, d + 1 : d + 1 + HORIZON].sum(axis=1) for d in range(N_SESSIONS)], axis=1)
    ticker, position = np.divmod(np.arange(N_TICKERS * N_SESSIONS), N_SESSIONS)
    label = (ahead.ravel() > 1.0).astype(np.float32)
    address = ticker * (N_SESSIONS // CHUNK) + position // CHUNK
    tabular = np.column_stack([address, np.ones((len(label), 2))]).astype(np.float32)
    inputs = Inputs(tabular, ("address", "atr_pct", "bb_bandwidth"), (), np.zeros((len(label), 30)), position)
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(N_SESSIONS)]
    rows = LabelledRows(BarRows(None), np.arange(len(label)), days, position, label)
    vars(rows)["inputs"] = inputs  # in place of those of its bars
    return rows


def auc_learnt(rows: LabelledRows, train: np.ndarray, judged: np.ndarray) -> float:
    """Return how well a member with nothing to hold it back ranks the rows ``judged``."""
    eager = {"learning_rate": 0.3, "num_leaves": 255, "lambda_l2": 0.0, "feature_fraction": 1.0}
    fine = {"min_data_in_leaf": 2, "min_data_in_bin": 1, "max_bin": 5000, "bagging_fraction": 1.0}
    recipe = BoostingRecipe(30, seed=1, threads=1, parameters=eager | fine, learns_level=True)
    member = LgbmMember.fit(rows.examples(train), recipe)
    return auc(member.margin(rows.inputs, rows.ends[judged]), rows.label[judged])


def test_a_leak_is_visible_on_shuffled_rows_and_gone_on_purged_folds():
    rows = noise_rows()
    shuffled = np.random.default_rng(1).permutation(len(rows.ends))
    leaky = auc_learnt(rows, np.sort(shuffled[1500:]), shuffled[:1500])
    folds = last_folds(N_SESSIONS, n_folds=2, validation_share=0.4, horizon=HORIZON)
    honest = [auc_learnt(rows, rows.chosen(fold.train), rows.chosen(fold.test)) for fold in folds]
    assert leaky > 0.7
    assert np.mean(honest) == pytest.approx(0.5, abs=0.04)


def test_rows_that_touch_the_block_leak_and_purging_takes_exactly_that_away():
    """Judged on the first days of a block: what was learnt up to the day before knows most of their labels."""
    rows = noise_rows()
    block = Fold(np.arange(83), np.arange(83, 85))  # two sessions whose five-day address began before them
    unpurged = auc_learnt(rows, rows.chosen(block.train), rows.chosen(block.test))
    kept = purged_from(block.train, block, HORIZON)
    purged = auc_learnt(rows, rows.chosen(kept), rows.chosen(block.test))
    assert unpurged > 0.75
    assert purged == pytest.approx(0.5, abs=0.13)  # of 120 rows


def test_out_of_fold_refuses_an_unpurged_fold_before_anything_is_trained():
    rows, fitter = noise_rows(), Fitter(Settings(), Budget(None, 1.0), ("lgbm",))
    fitter = replace(fitter, advance=lambda name: pytest.fail(f"{name} was trained on a leak"))
    (fold,) = last_folds(N_SESSIONS, n_folds=1, validation_share=0.4, horizon=HORIZON)
    unpurged = Fold(np.arange(fold.test.min() - HORIZON + 1), fold.test)
    with pytest.raises(ValueError, match=f"session {fold.test.min() - HORIZON} ends 5 sessions later.*leakage"):
        out_of_fold(rows, (unpurged,), Settings(), fitter)
