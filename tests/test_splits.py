"""Splits by session: no label of a training row ends in a block that judges it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstock_batch.errors import NotEnoughHistory
from kstock_batch.training.splits import last_blocks, walk_forward


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


@given(n=st.integers(1, 1500), share=st.floats(0.05, 0.5), horizon=st.integers(0, 10))
def test_blocks_follow_each_other_with_a_gap_of_the_horizon(n, share, horizon):
    try:
        blocks = last_blocks(n, validation_share=share, horizon=horizon)
    except NotEnoughHistory as error:
        assert f"{n} sessions" in str(error)
        return
    assert blocks.train.max() + horizon < blocks.calibration.min()
    assert blocks.calibration.max() + horizon < blocks.judge.min()
    assert blocks.judge.max() == n - 1


def test_the_last_fifth_is_a_fifth_of_the_sessions():
    blocks = last_blocks(700, validation_share=0.2, horizon=5)
    assert blocks.calibration.min() == 560
    assert len(blocks.train) == 555
    assert abs(len(blocks.calibration) - len(blocks.judge)) <= 1


def test_too_few_sessions_are_refused_with_the_number_there_are():
    with pytest.raises(NotEnoughHistory, match="50 sessions"):
        last_blocks(50, validation_share=0.2, horizon=5)
