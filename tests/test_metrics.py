"""Metrics against values worked out by hand and against scikit-learn."""

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import brier_score_loss, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from kstock_batch.judging.metrics import (
    auc,
    auc_by_group,
    auc_by_session,
    brier,
    calibration_error,
    lift,
    log_loss,
    losses,
    skill,
    volatility_cell,
)

RNG = np.random.default_rng(5)
P = RNG.uniform(0.05, 0.95, 4000).round(2)  # rounded: ties
Y = (RNG.uniform(size=4000) < P**1.5).astype(float)


def test_auc_log_loss_and_brier_agree_with_scikit_learn():
    assert auc(P, Y) == pytest.approx(roc_auc_score(Y, P), abs=1e-12)
    assert log_loss(P, Y) == pytest.approx(sklearn_log_loss(Y, P), abs=1e-12)
    assert brier(P, Y) == pytest.approx(brier_score_loss(Y, P), abs=1e-12)


def test_auc_of_one_class_has_no_meaning():
    assert np.isnan(auc(P, np.ones_like(P)))


def test_auc_within_sessions_is_not_fooled_by_levels_that_differ_between_sessions():
    session = np.repeat([1, 2], 100)
    y = np.concatenate([np.r_[np.ones(80), np.zeros(20)], np.r_[np.ones(20), np.zeros(80)]])
    p = np.where(session == 1, 0.8, 0.2)
    assert auc(p, y) > 0.75
    assert auc_by_session(p, y, session) == pytest.approx(0.5)


def test_the_mean_over_sessions_is_the_mean_of_their_aucs():
    session = RNG.permutation(np.repeat(np.arange(8), 500))
    expected = np.mean([roc_auc_score(Y[session == s], P[session == s]) for s in range(8)])
    assert auc_by_session(P, Y, session) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_is_zero_for_frequencies_and_the_distance_otherwise():
    y = np.tile([1.0, 0.0, 0.0, 0.0], 1000)
    assert calibration_error(np.full(4000, 0.25), y) == pytest.approx(0, abs=1e-12)
    assert calibration_error(np.full(4000, 0.35), y) == pytest.approx(0.10)


def test_always_saying_the_base_rate_has_no_brier_skill():
    found = skill(np.full(4000, Y.mean()), Y, np.zeros(4000, dtype=np.int64), Y.mean())
    assert found.brier_skill_pct == pytest.approx(0, abs=1e-9)
    assert found.auc == 0.5


# The skill table's own formulas, in polars, against ours in NumPy.

SESSION = RNG.permutation(np.repeat(np.arange(20), 200))
ATR = RNG.gamma(4, 1, 4000).round(1)  # rounded: ties
VOLATILITY = np.clip(0.08 * ATR, 0.02, 0.9)
TABLE = pl.DataFrame({"date": SESSION, "y": Y, "p": P, "atr_pct": ATR, "vol": VOLATILITY})


def mean_auc(frame, by):
    ranks = frame.with_columns(r=pl.col("p").rank("average").over(by)).group_by(by)
    sums = ranks.agg(n1=pl.col("y").sum(), n=pl.len(), s=pl.col("r").filter(pl.col("y") == 1).sum())
    sums = sums.filter((pl.col("n1") > 0) & (pl.col("n1") < pl.col("n")))
    above = pl.col("s") - pl.col("n1") * (pl.col("n1") + 1) / 2
    return sums.select((above / (pl.col("n1") * (pl.col("n") - pl.col("n1")))).mean()).item()


@pytest.mark.parametrize("rows", [slice(None), slice(0, 500), slice(0, 130)], ids=["200", "25", "7 a session"])
def test_skill_equals_the_skill_table(rows):
    table = TABLE[rows].with_columns(
        vd=((pl.col("atr_pct").rank("ordinal") - 1) * 10 / pl.len()).cast(pl.Int8).over("date")
    )
    is_top = pl.col("p").rank("ordinal", descending=True) <= pl.len() * 0.1
    days = table.group_by("date").agg(hit=pl.col("y").filter(is_top).mean(), bs=pl.col("y").mean())
    y, p, vol = (table[name].to_numpy() for name in ("y", "p", "vol"))
    found = skill(p, y, SESSION[rows], 0.4, atr_pct=ATR[rows], volatility=VOLATILITY[rows])
    quintiles = table.with_columns(v5=pl.col("vd") // 2)
    assert found.auc_day == pytest.approx(mean_auc(table, ["date"]), abs=1e-12)
    assert found.auc_day_vol == pytest.approx(mean_auc(quintiles, ["date", "v5"]), abs=1e-12)
    assert found.brier_skill_vol_pct == pytest.approx(100 * (1 - ((p - y) ** 2).mean() / ((vol - y) ** 2).mean()))
    assert found.brier_skill_pct == pytest.approx(100 * (1 - ((p - y) ** 2).mean() / ((0.4 - y) ** 2).mean()))
    top = days["hit"].mean()
    assert found.lift == pytest.approx(top / days["bs"].mean() if top is not None else float("nan"), nan_ok=True)


def test_what_was_not_given_has_no_metric_and_the_row_says_none():
    row = skill(P, Y, SESSION, 0.4).row()
    assert row["auc_day_vol"] is None
    assert row["brier_skill_vol_pct"] is None
    assert row["lift"] > 1


def test_base_rates_may_differ_between_folds():
    at = np.where(SESSION < 10, 0.3, 0.5)
    expected = 100 * (1 - ((P - Y) ** 2).mean() / ((at - Y) ** 2).mean())
    assert skill(P, Y, SESSION, at).brier_skill_pct == pytest.approx(expected)


def test_the_auc_of_each_group_is_scikit_learns():
    group = RNG.integers(-3, 9, 4000)
    found = auc_by_group(P, Y, group)
    for one, value in zip(found.group, found.value, strict=True):
        assert value == pytest.approx(roc_auc_score(Y[group == one], P[group == one]), abs=1e-12)


def test_a_group_of_one_outcome_has_no_auc_and_leaves_the_mean():
    y = np.where(SESSION == 4, 0.0, Y)
    found = auc_by_group(P, y, SESSION)
    assert np.flatnonzero(np.isnan(found.value)).tolist() == [4]
    assert found.mean() == pytest.approx(np.mean(found.value[found.group != 4]))
    assert np.isnan(auc_by_group(P, np.zeros_like(Y), SESSION).mean())


def test_groups_too_far_apart_for_sixteen_bits_are_groups_too():
    assert auc_by_group(P, Y, SESSION * 10**6).mean() == auc_by_group(P, Y, SESSION).mean()


def test_every_volatility_cell_of_a_session_holds_a_fifth_of_it():
    cell = volatility_cell(SESSION, ATR)
    assert np.bincount(cell).tolist() == [40] * 100
    assert (cell // 5 == SESSION).all()
    calm, wild = ATR[cell % 5 == 0], ATR[cell % 5 == 4]
    assert calm.max() < wild.min() + 1
    assert np.bincount(volatility_cell(SESSION, np.ones(4000))).tolist() == [40] * 100


def test_volatility_quintiles_hide_what_volatility_alone_explains():
    y = (RNG.uniform(size=4000) < VOLATILITY).astype(float)
    assert auc_by_session(VOLATILITY, y, SESSION) > 0.6
    within = np.searchsorted(np.quantile(ATR, [0.2, 0.4, 0.6, 0.8]), ATR) / 5.0
    assert skill(within, y, SESSION, 0.3, atr_pct=ATR).auc_day_vol == pytest.approx(0.5, abs=0.02)


def test_nothing_has_no_metric():
    none = np.array([])
    assert np.isnan(auc(none, none))
    assert np.isnan(lift(none, none, np.array([], dtype=np.int64)))


def test_losses_are_those_whose_mean_is_the_log_loss():
    assert losses(P, Y).mean() == pytest.approx(log_loss(P, Y), abs=1e-15)
    assert losses(np.array([0.0]), np.array([1.0]))[0] == pytest.approx(13.8, abs=0.1)
