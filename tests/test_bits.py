"""Two tables compared bit by bit."""

import math

import polars as pl

from kstock_batch.serving.replay.bits import Comparison


def compared(there, rebuilt, key=("ticker",), columns=("x",)):
    return Comparison.of(pl.DataFrame(there), pl.DataFrame(rebuilt), key=key, columns=columns)


def test_the_last_bit_of_a_float_and_the_sign_of_a_zero_are_differences_and_a_nan_equals_itself():
    names = ["000010", "000020", "000030", "000040", "000050"]
    there = {"ticker": names, "x": [0.3, 0.0, math.nan, None, None]}
    same = compared(there, there)
    assert same.is_identical and same.tickers == [] and same.columns == {}
    found = compared(there, {"ticker": names, "x": [0.1 + 0.2, -0.0, math.nan, None, 0.0]})
    assert found.cells.select("ticker", "there", "rebuilt").rows() == [
        ("000010", "0.3", "0.30000000000000004"),
        ("000020", "0.0", "-0.0"),
        ("000050", None, "0.0"),
    ]
    assert found.farthest(["x"]) == math.inf  # a number beside none
    assert found.n_alike(["x"]) == 2 and found.n_alike(["y"]) == 5


def test_the_same_number_in_another_type_differs():
    there = pl.DataFrame({"ticker": ["000010"], "x": pl.Series([1.0], dtype=pl.Float32)})
    found = Comparison.of(there, there.cast({"x": pl.Float64}), key=("ticker",), columns=("x",))
    assert found.columns == {"x": 1} and found.farthest(["x"]) == 0
    assert Comparison.of(there, there, key=("ticker",), columns=("x",)).is_identical


def test_texts_days_and_counts_are_compared_as_they_are():
    there = {"ticker": ["000010", "000020"], "label": ["BUY", None], "rank": [1, 2]}
    found = compared(there, there | {"label": ["BUY", "BUY"], "rank": [1, 3]}, columns=("label", "rank"))
    assert found.cells.select("ticker", "column", "there", "rebuilt").rows() == [
        ("000020", "label", None, "BUY"),
        ("000020", "rank", "2", "3"),
    ]
    assert found.columns == {"label": 1, "rank": 1} and found.tickers == ["000020"]


def test_rows_of_one_side_and_rows_that_are_there_twice_are_named():
    there = {"ticker": ["000010", "000010", "000020"], "x": [1.0, 2.0, 3.0]}
    found = compared(there, {"ticker": ["000010", "000030"], "x": [1.0, 4.0]})
    assert found.cells.is_empty() and not found.is_identical
    assert sorted(found.only_there["ticker"]) == ["000010", "000020"]  # the second time
    assert found.only_rebuilt["ticker"].to_list() == ["000030"]
    assert found.tickers == ["000010", "000020", "000030"]
    assert found.n_alike(["x"]) == 1
