"""The gate: what serves must beat the floors, be calibrated, and not be worse than what serves now."""

import json

import numpy as np
import polars as pl
import pytest

from kstock_batch.training.gate import Limits, judge_challenger

N_SESSIONS, N_STOCKS = 140, 240
RELAXED = Limits(margin_auc=0.05, margin_log_loss_pct=3)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def market(seed=0, *, level=0.5, n_sessions=N_SESSIONS):
    """Rows of a market whose days move together; ``odds`` is what can be known of them, ``vol`` a part of it."""
    rng = np.random.default_rng(seed)
    n = n_sessions * N_STOCKS
    session = np.repeat(np.arange(n_sessions), N_STOCKS)
    atr_pct, hidden = rng.gamma(4, 1, n), rng.normal(0, 0.5, n)
    vol = -1.6 + 0.8 * (np.log1p(atr_pct) - 1.5)
    days = np.convolve(rng.normal(0, level, n_sessions + 4), np.ones(5) / 5**0.5, "valid")
    label = (rng.uniform(size=n) < sigmoid(vol + hidden + days[session])).astype(float)
    return {
        "session": session,
        "label": label,
        "atr_pct": atr_pct,
        "challenger": sigmoid(vol + hidden),
        "base": np.full(n, sigmoid(-1.5)),
        "volatility": sigmoid(vol),
        "linear": sigmoid(vol + 0.1 * hidden),
        "odds": vol + hidden,
        "noise": rng.normal(size=n),
    }


ROWS = market()


def judged(limits=None, rows=ROWS, **changed):
    return judge_challenger({**rows, **changed}, limits)


def failed(verdict):
    return {check.name for check in verdict.checks if not check.passed}


def test_an_honest_challenger_passes_and_the_reason_names_every_value():
    verdict = judged(champion=sigmoid(ROWS["odds"] + 0.03 * ROWS["noise"]))
    assert verdict.passed, verdict.reason
    assert [check.name for check in verdict.checks] == [
        *("probabilities", "sessions", "base_rate_log_loss"),
        *("volatility_log_loss", "volatility_auc", "linear_log_loss", "linear_auc"),
        *("calibration_error_pct", "mean_error_pct", "champion_log_loss", "champion_auc"),
    ]
    assert verdict.reason.startswith("it passed 11 checks: probabilities 0")
    assert all(check.name in verdict.reason for check in verdict.checks)


def test_equal_models_are_rarely_refused_and_clearly_worse_ones_always():
    refused, n = {"equal": 0, "worse": 0}, 20
    for seed in range(n):
        rows = market(seed + 50)
        odds, noise = rows["odds"], rows["noise"]
        other = np.random.default_rng(seed).normal(size=len(noise))
        equal = judged(rows=rows, challenger=sigmoid(odds + 0.1 * noise), champion=sigmoid(odds + 0.1 * other))
        worse = judged(rows=rows, challenger=sigmoid(odds + 0.3 * noise), champion=sigmoid(odds))
        refused["equal"] += bool(failed(equal) & {"champion_log_loss", "champion_auc"})
        refused["worse"] += bool(failed(worse) & {"champion_log_loss", "champion_auc"})
    assert refused == {"equal": 0, "worse": n}


def test_a_challenger_worse_than_the_champion_in_log_loss_alone_is_refused_with_both_numbers():
    z = ROWS["odds"]
    verdict = judged(Limits(max_ece_pct=99), challenger=sigmoid(z.mean() + 1.6 * (z - z.mean())), champion=sigmoid(z))
    assert failed(verdict) == {"champion_log_loss"}
    assert "log-loss is 0.0" in verdict.reason
    assert "worse than that of the champion" in verdict.reason
    (check,) = (check for check in verdict.checks if not check.passed)
    assert f"{check.value:.5f}" in verdict.reason
    assert f"{check.limit:.5f}" in verdict.reason


def test_a_challenger_that_ranks_worse_is_refused_although_its_log_loss_is_allowed():
    limits = Limits(margin_log_loss_pct=99)
    verdict = judged(limits, challenger=sigmoid(ROWS["odds"] + 0.3 * ROWS["noise"]), champion=sigmoid(ROWS["odds"]))
    assert failed(verdict) == {"champion_auc"}


def test_a_better_champion_is_no_obstacle_where_it_is_not_known():
    """Rows on which the champion has no honest probability are not compared: there it would be worse than nothing."""
    champion = sigmoid(ROWS["odds"])
    champion[ROWS["session"] < 70] = np.nan
    poor = np.where(ROWS["session"] < 70, ROWS["volatility"], sigmoid(ROWS["odds"]))
    verdict = judged(RELAXED, challenger=poor, champion=champion)
    by_name = {check.name: check for check in verdict.checks}
    assert by_name["champion_log_loss"].value == 0
    assert by_name["champion_auc"].value == 0


@pytest.mark.parametrize("known", [0, 19])
def test_without_enough_sessions_in_common_only_floors_and_calibration_judge(known):
    champion = np.where(ROWS["session"] < known, ROWS["label"], np.nan)  # unbeatable, but hardly known
    verdict = judged(champion=champion)
    assert verdict.passed, verdict.reason
    assert verdict.checks[-1].name == "champion"
    assert f"{known} sessions in common, 20 are needed" in verdict.checks[-1].sentence
    if not known:
        assert judged().checks == verdict.checks


@pytest.mark.parametrize("floor", ["volatility", "linear"])
def test_a_challenger_no_better_than_a_floor_is_refused(floor):
    z = np.log(ROWS[floor] / (1 - ROWS[floor]))
    found = failed(judged(challenger=sigmoid(z + 0.02 * ROWS["noise"])))
    assert f"{floor}_log_loss" in found
    if floor == "volatility":
        assert "volatility_auc" in found


def test_a_floor_that_ranks_better_refuses_unless_ranking_is_left_unjudged():
    swapped = {"challenger": ROWS["linear"], "linear": ROWS["challenger"]}
    assert "linear_auc" in failed(judged(**swapped))
    assert "linear_auc" not in failed(judged(Limits(max_floor_share_worse=1), **swapped))


def test_a_challenger_below_the_base_rate_is_refused():
    assert "base_rate_log_loss" in failed(judged(challenger=1 - ROWS["challenger"]))


def test_log_odds_twice_as_steep_are_refused_by_calibration():
    z = ROWS["odds"]
    verdict = judged(challenger=sigmoid(z.mean() + 2.2 * (z - z.mean())))
    assert "calibration_error_pct" in failed(verdict)
    assert "points beyond the" in verdict.reason


def test_a_level_that_days_do_not_explain_is_refused_and_one_they_do_is_not():
    assert "mean_error_pct" in failed(judged(challenger=sigmoid(ROWS["odds"] + 0.8)))
    assert "mean_error_pct" not in failed(judged(challenger=sigmoid(ROWS["odds"] + 0.1)))


def test_a_market_that_rose_or_fell_refuses_hardly_any_honest_model_for_its_calibration():
    names = {"calibration_error_pct", "mean_error_pct"}
    refused = [bool(failed(judged(rows=market(seed, level=0.9, n_sessions=70))) & names) for seed in range(100, 120)]
    assert sum(refused) <= 2


@pytest.mark.parametrize("value", [np.nan, 1.1, -0.1, np.inf])
def test_a_challenger_without_a_probability_somewhere_is_refused_at_once(value):
    challenger = ROWS["challenger"].copy()
    challenger[17] = value
    verdict = judged(challenger=challenger)
    assert failed(verdict) == {"probabilities"}
    assert "1 of 33,600 rows have no probability" in verdict.reason


def test_too_few_sessions_judge_nobody():
    few = {name: values[ROWS["session"] < 19] for name, values in ROWS.items()}
    verdict = judge_challenger(few)
    assert not verdict.passed
    assert verdict.reason == "it was judged on 19 sessions, 20 are needed"


def test_a_floor_known_nowhere_is_not_beaten():
    verdict = judged(linear=np.full(len(ROWS["label"]), np.nan))
    assert {"linear_log_loss", "linear_auc"} <= failed(verdict)
    assert "cannot be compared with the linear floor's" in verdict.reason


def test_a_market_in_which_nothing_came_true_is_refused_without_a_crash():
    verdict = judged(label=np.zeros_like(ROWS["label"]), champion=ROWS["linear"])
    assert {"volatility_auc", "linear_auc", "champion_auc"} <= failed(verdict)
    json.dumps(verdict.as_json(), allow_nan=False)


def test_a_frame_with_nulls_gives_the_verdict_of_arrays_with_nan():
    champion = np.where(ROWS["session"] < 40, np.nan, sigmoid(ROWS["odds"] - 0.05))
    frame = pl.DataFrame({**ROWS, "champion": champion}).with_columns(pl.col("champion").fill_nan(None))
    assert judge_challenger(frame) == judged(champion=champion)


def test_the_order_of_the_rows_changes_no_decision():
    frame = pl.DataFrame({**ROWS, "champion": sigmoid(ROWS["odds"] + 0.1 * ROWS["noise"])})
    one, two = judge_challenger(frame), judge_challenger(frame.sample(fraction=1, shuffle=True, seed=1))
    assert [check.passed for check in one.checks] == [check.passed for check in two.checks]
    assert [check.value for check in one.checks] == pytest.approx([check.value for check in two.checks])


def test_the_verdict_is_json_for_the_manifest():
    told = json.loads(json.dumps(judged().as_json(), allow_nan=False))
    assert told["passed"] is True
    assert set(told["checks"][0]) == {"name", "value", "limit", "passed", "sentence"}
    assert judged().rows() == told["checks"]


def test_missing_columns_and_labels_that_are_none_are_the_callers_mistake():
    with pytest.raises(ValueError, match=r"lack columns \['linear'\]"):
        judge_challenger({name: values for name, values in ROWS.items() if name != "linear"})
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        judged(label=np.full(len(ROWS["label"]), np.nan))
