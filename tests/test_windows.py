"""Windows: adjacent rows of one ticker, dense enough, oldest first."""

from datetime import date, timedelta

import numpy as np
import polars as pl

from kstock_batch.features.windows import BarRows, gather

FIRST = date(2024, 1, 1)


def rows(**numbers):
    """Return bars per ticker at the given session numbers; x counts rows within the ticker."""
    return pl.concat(
        pl.DataFrame(
            {
                "ticker": [ticker] * len(at),
                "as_of": [FIRST + timedelta(days=n) for n in at],
                "session_number": list(at),
                "x": [float(i) for i in range(len(at))],
            }
        )
        for ticker, at in numbers.items()
    )


def ends_of(bars):
    return [(bars.frame["ticker"][int(i)], bars.frame["session_number"][int(i)]) for i in bars.window_ends()]


def test_a_window_ends_on_every_bar_from_the_twentieth_on_and_never_spans_two_tickers():
    bars = BarRows.of(rows(a=range(19), b=range(22)))
    assert ends_of(bars) == [("b", 19), ("b", 20), ("b", 21)]


def test_a_window_spans_at_most_forty_sessions():
    dense, sparse = [*range(19), 39], [*range(19), 40]
    assert ends_of(BarRows.of(rows(a=dense))) == [("a", 39)]
    assert ends_of(BarRows.of(rows(a=sparse))) == []


def test_rows_in_any_order_give_the_same_windows():
    frame = rows(a=range(25), b=range(30))
    shuffled = BarRows.of(frame.sample(fraction=1, shuffle=True, seed=1))
    sorted_rows = BarRows.of(frame)
    one = gather(shuffled.values(["x"]), shuffled.window_ends())
    two = gather(sorted_rows.values(["x"]), sorted_rows.window_ends())
    np.testing.assert_array_equal(one, two)


def test_a_window_is_float32_of_shape_t_by_f_with_the_oldest_bar_first():
    bars = BarRows.of(rows(a=range(21)))
    windows = gather(bars.values(["x", "session_number"]), bars.window_ends())
    assert (windows.shape, windows.dtype) == ((2, 20, 2), np.float32)
    assert windows[1, :, 0].tolist() == list(range(1, 21))


def test_what_is_missing_is_nan():
    frame = rows(a=range(20)).with_columns(x=pl.when(pl.col("x") != 3).then("x"))
    values = BarRows.of(frame).values(["x"])
    assert np.flatnonzero(np.isnan(values[:, 0])).tolist() == [3]


def test_no_rows_give_no_windows():
    bars = BarRows.of(rows(a=range(20)).head(0))
    assert gather(bars.values(["x"]), bars.window_ends()).shape == (0, 20, 1)
