"""Ranks within a session, by hand and beside those that polars computes."""

import numpy as np
import polars as pl
import pytest

from kstock_batch.learners import session_ranks as module
from kstock_batch.learners.session_ranks import SessionGrid

UNKNOWN = None


def ranks(values: list[float | None], session: list[int] | None = None) -> list[float | None]:
    """The ranks of values, unknown ones as None."""
    column = pl.Series(values, dtype=pl.Float32)
    grid = SessionGrid.of(np.array(session or [7] * len(values)))
    found = grid.ranks(column.fill_null(float("nan")).to_numpy(), column.is_not_null().to_numpy())
    assert found.dtype == np.float32
    return [None if np.isnan(rank) else float(rank) for rank in found]


def test_the_lowest_is_half_below_and_the_highest_half_above():
    assert ranks([30.0, 10.0, 50.0, 20.0, 40.0]) == [0.0, -0.5, 0.5, -0.25, 0.25]


def test_equal_values_share_their_mean_rank():
    assert ranks([1.0, 9.0, 1.0, 5.0, 9.0]) == [-0.375, 0.375, -0.375, 0.0, 0.375]


def test_unknown_ones_have_no_rank_and_count_for_nobody():
    assert ranks([8.0, UNKNOWN, 30.0, UNKNOWN, 12.0]) == [-0.5, None, 0.5, None, 0.0]
    assert ranks([UNKNOWN, UNKNOWN]) == [None, None]


def test_a_session_of_ties_and_its_only_known_value_are_exactly_the_middle():
    assert ranks([3.0, 3.0, 3.0]) == [0.0, 0.0, 0.0]
    assert ranks([UNKNOWN, 4.0, UNKNOWN]) == [None, 0.0, None]


def test_the_two_zeros_are_equal_and_negative_numbers_lie_below_them():
    assert ranks([0.0, -0.0, -1e-38, 1e-38, -5.0]) == [0.125, 0.125, -0.25, 0.5, -0.5]


def test_infinity_lies_outside_of_all_numbers():
    assert ranks([float("inf"), 3e38, -float("inf"), -3e38, 0.0]) == [0.5, 0.25, -0.5, -0.25, 0.0]


def test_not_a_number_is_known_and_above_all():
    assert ranks([float("nan"), float("inf"), 0.0, UNKNOWN, float("nan")]) == pytest.approx(
        [1 / 3, -1 / 6, -0.5, None, 1 / 3]
    )
    odd = np.array([0x7FC00000, 0xFFC00001, 0x7F800000, 0xFF800000], dtype=np.uint32).view(np.float32)  # NaN has many
    np.testing.assert_allclose(
        SessionGrid.of(np.zeros(4)).ranks(odd, np.ones(4, dtype=bool)), [1 / 3, 1 / 3, -1 / 6, -0.5]
    )


def test_sessions_do_not_see_each_other_whatever_the_order_of_rows():
    assert ranks([1.0, 50.0, 2.0, 40.0, 3.0], [4, 9, 4, 9, 4]) == [-0.5, 0.5, 0.0, -0.5, 0.5]


def test_no_rows_have_no_ranks():
    assert ranks([]) == []


@pytest.mark.parametrize("cells_at_once", [1, 100, module.CELLS_AT_ONCE])
def test_the_ranks_are_those_of_polars_to_the_bit(monkeypatch, cells_at_once):
    monkeypatch.setattr(module, "CELLS_AT_ONCE", cells_at_once)
    rng = np.random.default_rng(3)
    n = 4000
    frame = pl.DataFrame({"session": rng.integers(0, 40, n), "many": rng.normal(size=n), "few": rng.integers(-2, 3, n)})
    frame = frame.with_columns(pl.col("many", "few").cast(pl.Float32)).with_columns(
        pl.when(pl.lit(pl.Series(rng.random(n) < 0.8))).then(pl.col("many", "few"))
    )
    grid = SessionGrid.of(frame["session"].to_numpy())
    for name in ("many", "few"):
        value, known = pl.col(name), pl.col(name).count()
        centred = (value.rank("average") - (known + 1) / 2) / (known - 1)
        theirs = frame.select(centred.over("session").cast(pl.Float32).fill_null(float("nan"))).to_series().to_numpy()
        ours = grid.ranks(frame[name].fill_null(float("nan")).to_numpy(), frame[name].is_not_null().to_numpy())
        np.testing.assert_array_equal(ours.view(np.int32), theirs.view(np.int32))
