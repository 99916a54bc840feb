"""What models see: scale-free values, summaries of the window and ranks for the trees, ranks for the LSTM."""

import json
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest

from kstock_batch.errors import ModelRefused
from kstock_batch.features.windows import BarRows
from kstock_batch.learners.base import Examples, Inputs
from kstock_batch.learners.inputs import (
    RANKS,
    TABULAR_NAMES,
    VALUES,
    build_inputs,
    dates_its_rows,
    describe_inputs,
    learnt_rows,
    require_columns,
)
from kstock_batch.learners.window_summaries import SUMMARY_NAMES
from kstock_batch.market.contract import FEATURE_NAMES, FEATURES

MARKET_WIDE = ["vix", "spx_change_pct", "usdkrw", "regime_encoded"]
FUNDAMENTAL = ["per", "roe", "debt_ratio", "market_cap_log"]
FIRST = date(2024, 1, 2)


def bars(rows: list[dict]) -> BarRows:
    """Rows of feature_daily; columns that a row leaves out are null, close is 1000."""
    blank = {"ticker": "000010", "as_of": FIRST, "session_number": 1, "close": 1000.0} | dict.fromkeys(FEATURE_NAMES)
    kinds = {name: pl.Float32 for name in FEATURE_NAMES} | {"close": pl.Float32, "as_of": pl.Date}
    return BarRows.of(pl.DataFrame([blank | row for row in rows], schema_overrides=kinds))


def one_session(column: str, values: list) -> BarRows:
    return bars([{"ticker": f"{i:06d}", column: value} for i, value in enumerate(values)])


def column(inputs: Inputs, name: str) -> list[float]:
    return inputs.sequence[:, FEATURE_NAMES.index(name)].tolist()


def of_trees(inputs: Inputs, name: str) -> np.ndarray:
    return inputs.tabular[:, inputs.tabular_names.index(name)]


def random_market(n_tickers: int, n_sessions: int, seed: int = 7) -> pl.DataFrame:
    """All 30 columns at random, a tenth of the ticker-scope values missing."""
    rng = np.random.default_rng(seed)
    n = n_tickers * n_sessions
    day = np.tile(np.arange(n_sessions), n_tickers)
    frame = {
        "ticker": np.repeat([f"{i:06d}" for i in range(n_tickers)], n_sessions),
        "as_of": [FIRST + timedelta(days=int(d)) for d in day],
        "session_number": day,
        "close": rng.uniform(1000, 90000, n).astype(np.float32),
    }
    for feature in FEATURES:
        values = rng.normal(size=n)
        if feature.scope == "market_wide":
            values = rng.normal(size=n_sessions)[day]
        if feature.as_input == "category":
            values = np.repeat(rng.integers(0, 30, n_tickers), n_sessions)
        if feature.as_input == "close_over":
            values = np.exp(values * 0.1) * frame["close"]
        if feature.as_input == "value" and feature.scope == "ticker":
            values = np.where(rng.random(n) < 0.1, np.nan, values)
        frame[feature.name] = values.astype(np.float32)
    return pl.DataFrame(frame).with_columns(pl.col(list(FEATURE_NAMES)).fill_nan(None))


@dataclass(frozen=True)
class Problem:
    """Examples to learn from, and later windows to be judged on: sessions apart, so that no window is in both."""

    examples: Examples
    later_ends: np.ndarray
    later_label: np.ndarray

    def auc(self, p: np.ndarray) -> float:
        """The share of (rise, no rise) pairs that ``p`` ranks rightly."""
        rank = np.empty(len(p))
        rank[np.argsort(p)] = np.arange(1, len(p) + 1)
        n_yes = self.later_label.sum()
        n_no = len(p) - n_yes
        return float((rank[self.later_label == 1].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))


def problem(signal: float, n_tickers: int = 40, n_sessions: int = 120, seed: int = 3) -> Problem:
    """Rises depend on return_3m_pct, which lasts as it does in life, with strength ``signal``; 0 is pure noise."""
    rng = np.random.default_rng(seed)
    shocks = rng.normal(size=(n_tickers, n_sessions + 100))
    decay = 0.9 ** np.arange(100)
    z = np.apply_along_axis(np.convolve, 1, shocks, decay, mode="valid")[:, :n_sessions].ravel() * np.sqrt(1 - 0.81)
    market = random_market(n_tickers, n_sessions, seed).with_columns(return_3m_pct=pl.Series(z, dtype=pl.Float32))
    rows = BarRows.of(market)
    inputs = build_inputs(rows)
    ends = rows.window_ends()
    chance = 1 / (1 + np.exp(1.0 - signal * z[ends]))
    label = (rng.random(len(ends)) < chance).astype(np.float32)
    session = inputs.session[ends]
    past, later = session < 85, session >= 90
    examples = Examples(inputs, ends[past], label[past], ends[past], label[past])
    return Problem(examples, ends[later], label[later])


def test_trees_see_values_then_summaries_of_the_window_then_ranks_and_nothing_market_wide():
    inputs = build_inputs(one_session("rsi", [50.0]))

    values, summaries = [feature.name for feature in VALUES], list(SUMMARY_NAMES)
    ranks = [f"{feature.name}_rank" for feature in RANKS]
    assert list(inputs.tabular_names) == [*values, *summaries, *ranks]
    assert len(set(inputs.tabular_names)) == inputs.tabular.shape[1]
    assert values == [name for name in FEATURE_NAMES if name not in (*MARKET_WIDE, *FUNDAMENTAL)]
    assert not [name for name in inputs.tabular_names for gone in (*MARKET_WIDE, "close") if name.startswith(gone)]
    assert inputs.categorical == ("sector_encoded",)


def test_fundamental_columns_reach_the_trees_as_ranks_only():
    inputs = build_inputs(one_session("per", [8.0, 30.0, None, 12.0]))
    assert "per" not in inputs.tabular_names
    np.testing.assert_array_equal(of_trees(inputs, "per_rank"), [-0.5, 0.5, np.nan, 0.0])


def test_won_columns_become_ratios_to_the_close():
    row = {"close": 2000.0, "macd_histogram": 50.0, "ema_50": 1600.0, "ema_200": 2500.0, "rsi": 61.5}
    inputs = build_inputs(bars([row]))
    seen = dict(zip(inputs.tabular_names, inputs.tabular[0].tolist(), strict=True))

    assert seen["macd_histogram"] == pytest.approx(0.025)
    assert seen["ema_50"] == pytest.approx(0.25)
    assert seen["ema_200"] == pytest.approx(-0.2)
    assert seen["rsi"] == 61.5


def test_a_later_split_changes_no_input():
    market = random_market(8, 24)
    restated = market.with_columns(pl.col("close", "macd_histogram", "ema_50", "ema_200") / 4)  # exact in binary

    before, after = build_inputs(BarRows.of(market)), build_inputs(BarRows.of(restated))

    assert np.isfinite(of_trees(before, "return_19b")).any()
    np.testing.assert_array_equal(before.tabular, after.tabular)
    np.testing.assert_array_equal(before.sequence, after.sequence)


def test_ranks_lie_evenly_from_minus_half_to_half_and_unknown_is_the_median():
    assert column(build_inputs(one_session("rsi", [30.0, 90.0, None, 40.0])), "rsi") == [-0.5, 0.5, 0.0, 0.0]


def test_ties_share_their_mean_rank():
    seen = column(build_inputs(one_session("rsi", [1.0, 1.0, 5.0, 9.0, 9.0])), "rsi")
    assert seen == [-0.375, -0.375, 0.0, 0.375, 0.375]


def test_won_columns_are_ranked_as_ratios_not_as_won():
    dear = {"ticker": "000001", "close": 100000.0, "macd_histogram": 100.0}  # 0.1 %
    cheap = {"ticker": "000002", "close": 1000.0, "macd_histogram": 50.0}  # 5 %
    assert column(build_inputs(bars([dear, cheap])), "macd_histogram") == [-0.5, 0.5]


@pytest.mark.parametrize("values", [[5.0], [None, 5.0], [None, None], [5.0, 5.0, 5.0]])
def test_a_session_that_cannot_rank_gives_exactly_zero(values):
    assert column(build_inputs(one_session("rsi", values)), "rsi") == [0.0] * len(values)


@pytest.mark.parametrize("name", [*MARKET_WIDE, "sector_encoded"])
def test_market_wide_columns_and_the_nominal_sector_code_are_zero_for_the_lstm(name):
    assert column(build_inputs(BarRows.of(random_market(5, 4))), name) == [0.0] * 20


def test_missing_values_are_nan_for_the_trees_and_finite_for_the_lstm():
    market = random_market(6, 5)
    inputs = build_inputs(BarRows.of(market))

    for feature in VALUES:
        missing = market.sort("ticker", "as_of")[feature.name].is_null().to_numpy()
        np.testing.assert_array_equal(np.isnan(of_trees(inputs, feature.name)), missing)
        if feature in RANKS:
            np.testing.assert_array_equal(np.isnan(of_trees(inputs, f"{feature.name}_rank")), missing)
    assert np.isnan(of_trees(inputs, "rsi")).any()
    assert np.isfinite(inputs.sequence).all()
    assert inputs.tabular.dtype == inputs.sequence.dtype == np.float32


def test_the_ranks_of_the_trees_are_those_of_the_lstm_where_they_are_known():
    inputs = build_inputs(BarRows.of(random_market(9, 4)))
    for feature in RANKS:
        seen = of_trees(inputs, f"{feature.name}_rank")
        known = ~np.isnan(seen)
        np.testing.assert_array_equal(seen[known], np.array(column(inputs, feature.name), dtype=np.float32)[known])


def test_a_night_sees_what_the_training_rows_hold_of_it_to_the_bit():
    """Forty sessions for a night, years for a retrain: the same row must mean the same."""
    market = random_market(12, 90)
    years = build_inputs(BarRows.of(market))
    night = build_inputs(BarRows.of(market.filter(pl.col("session_number") >= 50)), since=89)
    newest = years.session == 89
    assert np.isfinite(of_trees(years, "return_19b")[newest]).all()
    np.testing.assert_array_equal(night.rows(np.flatnonzero(night.session == 89)), years.tabular[newest])
    np.testing.assert_array_equal(night.sequence, years.sequence[years.session >= 50])


def test_rows_of_sessions_for_which_nothing_was_built_are_not_handed_out():
    """A blank row would be scored without a word."""
    night = build_inputs(BarRows.of(random_market(12, 60)), since=58)
    newest, before = np.flatnonzero(night.session >= 58), np.flatnonzero(night.session == 57)
    assert night.rows(newest).shape == night.tabular.shape == (24, len(TABULAR_NAMES))
    for asked in (before, np.append(newest, before[-1]), np.array([len(night.session)])):
        with pytest.raises(ValueError, match="rows were asked for of sessions for which nothing tabular was built"):
            night.rows(asked)


def test_later_sessions_change_nothing_of_earlier_ones():
    market = random_market(9, 35)
    cut = pl.col("session_number") < 27

    whole, past = build_inputs(BarRows.of(market)), build_inputs(BarRows.of(market.filter(cut)))

    earlier = whole.session < 27
    assert np.isfinite(of_trees(past, "return_19b")).any()
    np.testing.assert_array_equal(whole.sequence[earlier], past.sequence)
    np.testing.assert_array_equal(whole.tabular[earlier], past.tabular)


def test_rows_keep_their_place_whatever_order_they_came_in():
    market = random_market(7, 6)
    shuffled = market.sample(fraction=1.0, shuffle=True, seed=5)

    straight, mixed = build_inputs(BarRows.of(market)), build_inputs(BarRows.of(shuffled))

    np.testing.assert_array_equal(straight.sequence, mixed.sequence)
    assert straight.session.tolist() == list(range(6)) * 7
    assert straight.session.dtype == np.int64


def test_no_rows_give_empty_inputs():
    inputs = build_inputs(BarRows.of(random_market(2, 2).clear()))
    assert (inputs.tabular.shape, inputs.sequence.shape, inputs.session.shape) == (
        (0, len(TABULAR_NAMES)),
        (0, 30),
        (0,),
    )


def test_the_manifest_says_which_columns_are_left_out_and_how_gaps_are_filled():
    told = describe_inputs()
    assert json.loads(json.dumps(told)) == told
    assert told["version"] == 2
    assert told["market_wide"]["columns"] == MARKET_WIDE
    assert told["tabular"] == list(TABULAR_NAMES)
    assert len(told["sequence"]) == 30


def test_columns_in_another_order_are_refused():
    inputs = build_inputs(one_session("rsi", [50.0]))
    with pytest.raises(ModelRefused, match=r"lgbm.txt learnt other columns: missing \['momentum'\]"):
        require_columns(inputs, [*inputs.tabular_names, "momentum"], "lgbm.txt")
    with pytest.raises(ModelRefused, match="learnt"):
        require_columns(inputs, inputs.tabular_names[::-1], "lgbm.txt")


def test_a_member_that_learns_the_level_is_not_shown_what_dates_a_session():
    inputs = build_inputs(BarRows.of(random_market(30, 80)))
    ends = np.flatnonzero(inputs.session >= 20)
    always = [inputs.tabular_names.index(name) for name in ("rsi", "return_5b", "roe_rank")]
    begins, ends_, silent = (
        inputs.tabular_names.index(name) for name in ("per_rank", "debt_ratio_rank", "policy_bonus")
    )
    inputs.tabular[inputs.session < 45, begins] = np.nan
    inputs.tabular[inputs.session > 50, ends_] = 0.0  # not missing, but one value for everybody
    inputs.tabular[:, silent] = np.nan  # says nothing at all: dates nothing
    thins_out = inputs.tabular_names.index("market_cap_log_rank")
    rarely = (inputs.session > 60) & (np.random.default_rng(0).random(len(inputs.session)) < 0.7)
    inputs.tabular[rarely, thins_out] = np.nan  # never of nobody, but of far fewer
    shown, whole = (learnt_rows(inputs, ends, learns_level=level) for level in (True, False))
    np.testing.assert_array_equal(whole, inputs.tabular[ends])
    np.testing.assert_array_equal(shown[:, always], whole[:, always])
    assert np.isnan(shown[:, [begins, ends_, thins_out]]).all()
    found = dates_its_rows(whole, inputs.session[ends])
    assert found[[begins, ends_, thins_out]].all() and not found[[*always, silent]].any()


def test_no_rows_are_dated_by_nothing():
    assert not dates_its_rows(np.empty((0, 3), dtype=np.float32), np.empty(0, dtype=np.int64)).any()
