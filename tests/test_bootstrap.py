"""The paired day-block bootstrap: intervals that cover, whatever moves together, and few sessions that say so."""

import numpy as np
import pytest

from kstock_batch.judging.bootstrap import (
    BLOCK,
    MIN_BLOCKS,
    auc_difference,
    difference,
    draw_means,
    log_loss_difference,
)
from kstock_batch.judging.metrics import auc_by_group, log_loss, volatility_cell
from kstock_batch.market.contract import HORIZON

RNG = np.random.default_rng(11)
SESSION = np.repeat(np.arange(60), 50)
ATR = RNG.uniform(1, 9, SESSION.size)
TRUE = np.clip(0.05 * ATR, 0.05, 0.95)
Y = (RNG.uniform(size=TRUE.size) < TRUE).astype(float)
NOISY = np.clip(TRUE + RNG.normal(0, 0.15, TRUE.size), 0.01, 0.99)


def walk(n, rng, *, steps=HORIZON):
    """Sums of ``steps`` draws, as labels that overlap are: neighbours share all but one."""
    return np.convolve(rng.normal(size=n + steps - 1), np.ones(steps), "valid")


def test_the_mean_is_the_difference_of_the_log_losses_and_positive_is_worse():
    found = log_loss_difference(NOISY, TRUE, Y, SESSION)
    assert found.mean == pytest.approx(log_loss(NOISY, Y) - log_loss(TRUE, Y), abs=1e-12)
    assert 0 < found.low < found.mean < found.high
    assert found.share_worse == 1
    assert log_loss_difference(TRUE, NOISY, Y, SESSION).share_worse == 0


def test_the_auc_difference_is_that_of_the_cells_means_and_positive_is_worse():
    found = auc_difference(NOISY, TRUE, Y, SESSION, ATR)
    cell = volatility_cell(SESSION, ATR)
    expected = auc_by_group(TRUE, Y, cell).mean() - auc_by_group(NOISY, Y, cell).mean()
    assert found.mean == pytest.approx(expected, abs=1e-12)
    assert found.low < found.mean < found.high


def test_a_column_compared_with_itself_is_never_worse():
    found = log_loss_difference(TRUE, TRUE, Y, SESSION)
    assert (found.mean, found.low, found.high, found.share_worse) == (0, 0, 0, 0)


def test_the_order_of_the_rows_is_irrelevant():
    order = RNG.permutation(Y.size)
    shuffled = log_loss_difference(NOISY[order], TRUE[order], Y[order], SESSION[order])
    found = log_loss_difference(NOISY, TRUE, Y, SESSION)
    assert (shuffled.mean, shuffled.low, shuffled.high) == pytest.approx((found.mean, found.low, found.high))


def test_draws_are_those_of_a_loop_over_circular_blocks():
    """The running sums against the sentence they implement; the last block is cut."""
    total, count = RNG.normal(size=(53, 2)), RNG.integers(1, 9, size=(53, 2))
    drawn = draw_means(total, count, block=7, draws=5, seed=3)
    starts = np.random.default_rng(3).integers(53, size=(5, 8))
    plain = np.empty((5, 2))
    for d in range(5):
        rows = np.concatenate([(start + np.arange(7)) % 53 for start in starts[d]])[:53]
        plain[d] = total[rows].sum(axis=0) / count[rows].sum(axis=0)
    spread = (drawn.means - drawn.mean) / (plain - drawn.mean)
    assert spread == pytest.approx(spread[0, 0])
    assert 1 < spread[0, 0] < 1.3  # Student's factor for eight blocks
    assert drawn.note == ""


@pytest.mark.parametrize("n_sessions", [24, 140])
def test_nine_intervals_of_ten_cover_zero_although_neighbouring_sessions_move_together(n_sessions):
    rng = np.random.default_rng(2)
    count = np.full(n_sessions, 100)
    found = [difference(100 * walk(n_sessions, rng), count) for _ in range(300)]
    assert 0.84 < np.mean([one.low <= 0 <= one.high for one in found]) < 0.97
    single = [difference(100 * walk(n_sessions, rng), count, block=1) for _ in range(300)]
    assert np.mean([one.low <= 0 <= one.high for one in single]) < 0.6, "single sessions are no independent draws"


def test_the_same_rows_give_the_same_interval():
    assert log_loss_difference(NOISY, TRUE, Y, SESSION) == log_loss_difference(NOISY, TRUE, Y, SESSION)


def test_few_sessions_widen_the_interval_and_say_so():
    total, count = RNG.normal(size=BLOCK * MIN_BLOCKS), np.ones(BLOCK * MIN_BLOCKS)
    assert difference(total, count).note == ""
    few = difference(total[:12], count[:12])
    assert few.note.startswith("12 sessions are few: interval widened")
    alone = difference(total[:12], count[:12], block=2)
    assert few.high - few.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize("n_sessions", [0, 1])
def test_no_interval_without_two_sessions(n_sessions):
    found = difference(np.ones(n_sessions), np.ones(n_sessions))
    assert (found.low, found.high) == (float("-inf"), float("inf"))
    assert found.row()["low"] is None
    assert f"{n_sessions} sessions say nothing" in found.note


def test_no_cell_with_both_outcomes_is_no_difference():
    found = auc_difference(NOISY, TRUE, np.zeros_like(Y), SESSION, ATR)
    assert np.isnan(found.mean)
    assert np.isnan(found.share_worse)


def test_two_sessions_are_compared_without_a_warning():
    rows = SESSION < 2
    found = log_loss_difference(NOISY[rows], TRUE[rows], Y[rows], SESSION[rows])
    assert found.low < found.mean < found.high
