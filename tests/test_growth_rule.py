"""The rule of the growth benchmark, on series whose growth is known."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest


def benchmark(name):
    """Return a module of tests/benchmarks/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


RULE = benchmark("growth_rule")
ROWS = (5_000, 100_000, 300_000, 1_000_000)


def series(curve, *, noise=0.0, runs=3, seed=1, rows=ROWS):
    """Return measurements of ``curve``, three of each size, each off by a draw of ``noise``."""
    random = np.random.default_rng(seed)
    return {n: [curve(n / 1e6) * (1 + noise * random.standard_normal()) for _ in range(runs)] for n in rows}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("exponent", [0.5, 0.9, 1.0])
def test_what_grows_with_its_rows_or_slower_passes_whatever_it_takes_to_start(exponent, seed):
    for start in (0.0, 1.0, 20.0):
        growth = RULE.growth_of(series(lambda n, a=start: a + 30 * n**exponent, noise=0.03, seed=seed))
        assert not growth.is_worse_than_linear(), (start, growth)


def test_a_linear_series_without_noise_has_exponent_one_its_start_and_its_price_of_a_row():
    growth = RULE.growth_of(series(lambda n: 2 + 30 * n))
    assert growth.exponent == pytest.approx(1, abs=1e-3)
    assert growth.start == pytest.approx(2, rel=1e-2)
    assert growth.per_row == pytest.approx(30e-6)
    assert growth.of(2e6) == pytest.approx(62, rel=1e-2)


def test_just_under_the_limit_passes_and_just_over_it_fails_where_nothing_blurs_it():
    assert not RULE.growth_of(series(lambda n: 1 + 30 * n**1.04)).is_worse_than_linear()
    assert RULE.growth_of(series(lambda n: 1 + 30 * n**1.12)).is_worse_than_linear()


@pytest.mark.parametrize("seed", range(20))
def test_an_exponent_of_a_fifth_too_much_fails_through_the_noise(seed):
    for start in (0.0, 1.0):
        assert RULE.growth_of(series(lambda n, a=start: a + 30 * n**1.2, noise=0.03, seed=seed)).is_worse_than_linear()


def test_a_square_hidden_behind_a_linear_part_and_a_long_start_fails():
    assert RULE.growth_of(series(lambda n: 5 + 10 * n + 20 * n**2, noise=0.03)).is_worse_than_linear()


def test_a_step_at_the_largest_size_fails_as_when_memory_spills():
    spilling = series(lambda n: 1 + 30 * n * (1.6 if n == 1 else 1.0), noise=0.03)
    assert RULE.growth_of(spilling).is_worse_than_linear()


def test_noise_that_hides_everything_is_no_failure_but_is_told():
    growth = RULE.growth_of(series(lambda n: 20 + 5 * n**1.3, noise=0.3, seed=3))
    assert not growth.is_worse_than_linear()
    assert not growth.is_told() or growth.exponent is None
    assert RULE.growth_of(series(lambda n: 1 + 30 * n, noise=0.03)).is_told()


def test_what_does_not_grow_has_no_exponent():
    growth = RULE.growth_of(series(lambda n: 2.0, noise=0.02))
    assert growth.exponent is None
    assert not growth.is_worse_than_linear() and growth.is_told()


def test_too_few_sizes_or_repetitions_are_refused():
    with pytest.raises(ValueError, match="3 sizes"):
        RULE.growth_of(series(lambda n: n, rows=ROWS[:3]))
    with pytest.raises(ValueError, match="repetitions"):
        RULE.growth_of(series(lambda n: n, runs=1))
