"""Two versions side by side, on the rows both were judged on and on no others."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from factories import asked_json, done, edit_json, flip_byte, run, sentence
from kstock_batch.errors import ModelRefused
from kstock_batch.judging.metrics import log_loss
from kstock_batch.market.contract import fingerprint
from kstock_batch.registry import Registry
from kstock_batch.training.comparison import compare

NOON = datetime(2024, 6, 28, 3)
FIRST = date(2024, 1, 1)
FACTS = {
    "as_of": "2024-06-28",
    "fingerprint": fingerprint(),
    "members": {"lgbm": {}},
    "training": {"first_session": "2023-01-02", "last_session": "2023-12-21", "n_rows": 10},
}


def judged(first, n_sessions, *, noise, seed=3, n_stocks=30):
    """Rows whose truth depends on (ticker, as_of) alone, forecast with ``noise``."""
    rng, spread = np.random.default_rng(seed), np.random.default_rng(1)
    n = 120 * n_stocks
    rows = pl.DataFrame(
        {
            "ticker": [f"{ticker:06d}" for ticker in range(n_stocks)] * 120,
            "as_of": [FIRST + timedelta(days=day) for day in range(120) for _ in range(n_stocks)],
            "atr_pct": spread.gamma(4, 1, n),
            "odds": spread.normal(-1, 1, n),
            "u": spread.uniform(size=n),
        }
    )
    p = 1 / (1 + (-pl.col("odds")).exp())
    blend = 1 / (1 + (-(pl.col("odds") + pl.Series(noise * rng.normal(size=n)))).exp())
    rows = rows.select("ticker", "as_of", "atr_pct", (pl.col("u") < p).alias("label_5d"), blend.alias("blend"))
    start = FIRST + timedelta(days=first)
    return rows.filter(pl.col("as_of").is_between(start, start + timedelta(days=n_sessions - 1)))


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "models")


def add(registry, days, rows, **metrics):
    def write(folder):
        (folder / "lgbm.txt").write_text("tree")
        if rows is not None:
            rows.write_parquet(folder / "judged.parquet")

    blend = {"auc": 0.6, "auc_day": 0.55, "brier_skill_pct": 1.0} | metrics
    return registry.add(NOON + timedelta(days=days), {**FACTS, "metrics": {"blend": blend}}, write)


def test_versions_are_compared_on_their_common_rows_only(registry):
    good, poor = judged(0, 80, noise=0.0), judged(20, 100, noise=1.0)
    found = compare(add(registry, 0, good), add(registry, 1, poor, lift=1.3))
    assert (found.n_sessions, found.n_rows) == (60, 1800)
    assert found.span == (FIRST + timedelta(days=20), FIRST + timedelta(days=79))
    one = good.filter(pl.col("as_of") >= found.span[0])
    two = poor.filter(pl.col("as_of") <= found.span[1])
    y = one["label_5d"].cast(pl.Float64).to_numpy()
    expected = log_loss(one["blend"].to_numpy(), y) - log_loss(two["blend"].to_numpy(), y)
    assert found.differences["log_loss"].mean == pytest.approx(expected, abs=1e-12)
    assert found.differences["auc_day_vol"].high < 0, "less is better"
    assert f"log_loss better by {-expected:.5f}, more than days explain" in found.sentence
    assert found.metric_rows()[-1] == {"metric": "lift", found.first: None, found.second: 1.3}


def test_a_difference_that_days_may_explain_says_so(registry):
    one, two = (judged(0, 80, noise=0.3, seed=seed) for seed in (1, 2))
    found = compare(add(registry, 0, one), add(registry, 1, two))
    assert "which days alone may explain" in found.sentence
    same = compare(registry.versions()[0], registry.versions()[0])
    assert same.sentence.endswith("the same log_loss and the same auc_day_vol")


def test_rows_whose_outcome_was_restated_or_that_were_not_scored_are_left_out(registry):
    rows = judged(0, 80, noise=0.1)
    at = pl.int_range(pl.len())
    restated = rows.with_columns(pl.when(at == 3).then(~pl.col("label_5d")).otherwise("label_5d").alias("label_5d"))
    unscored = rows.with_columns(
        pl.when(at == 4).then(None).when(at == 5).then(np.nan).otherwise("blend").alias("blend")
    )
    assert compare(add(registry, 0, restated), add(registry, 1, unscored)).n_rows == rows.height - 3


@pytest.mark.parametrize("rows", [None, judged(90, 20, noise=0)])
def test_without_common_rows_the_metrics_are_all_there_is(rows, registry):
    found = compare(add(registry, 0, judged(0, 60, noise=0)), add(registry, 1, rows))
    assert "judged on no common row" in found.sentence
    assert found.differences == {}
    json.dumps(found.as_json(), allow_nan=False)


def test_more_columns_than_are_needed_change_nothing(registry):
    rows = judged(0, 60, noise=0.2)
    more = rows.with_columns(volatility=0.2, linear=0.3, fold=1)
    assert compare(add(registry, 0, more), add(registry, 1, rows)).n_rows == rows.height


def test_a_damaged_version_is_not_compared(registry):
    one, two = (add(registry, day, judged(0, 60, noise=0.2)) for day in (0, 1))
    flip_byte(two.folder / "judged.parquet")
    with pytest.raises(ModelRefused, match=r"judged\.parquet has digest"):
        compare(one, two)


# The commands


@pytest.fixture
def names(tmp_path):
    """A root with three versions, of which the last serves and the first two served before."""
    registry = Registry(tmp_path / "models")
    rows = [judged(0, 80, noise=noise) for noise in (0.5, 0.3, 0.0)]
    names = [add(registry, day, one).version for day, one in enumerate(rows)]
    for name in names:
        registry.promote(name, at=NOON)
    return names


def test_compare_prints_both_tables_and_a_sentence(tmp_path, names):
    told = done(tmp_path, "models", "compare", names[2], names[0]).stdout
    assert "brier_skill_pct" in told
    assert told.splitlines()[-1].startswith(f"{names[2]} against {names[0]} on 2,400 common rows of 80 sessions")
    found = asked_json(tmp_path, "models", "compare", names[2], names[0])
    assert found["differences"]["log_loss"]["high"] < 0
    assert found["sentence"] == told.splitlines()[-1]


def test_rollback_takes_one_command_and_each_goes_further_back(tmp_path, names):
    told = done(tmp_path, "models", "rollback").stdout
    assert told == (f"{names[1]} instead of {names[2]} from the next score on; a further rollback goes to {names[0]}\n")
    found = asked_json(tmp_path, "models", "rollback")
    assert (found["version"], found["rolled_back_from"], found["history"]) == (names[0], names[1], [])
    assert "no predecessor" in sentence(run(tmp_path, "models", "rollback"))
    assert "goes to" not in done(tmp_path, "models", "rollback", "--to", names[2]).stdout
    listed = asked_json(tmp_path, "models", "list")
    assert [row["version"] for row in listed if row["champion"]] == [names[2]]


def test_a_model_of_other_features_is_not_rolled_back_to(tmp_path, names):
    edit_json(tmp_path / "models" / names[1] / "manifest.json", lambda m: m.update(fingerprint="of another program"))
    result = run(tmp_path, "models", "rollback")
    assert result.exit_code == 10
    assert "fingerprint of another program" in sentence(result)
    assert Registry(tmp_path / "models").champion().version == names[2]


def test_prune_says_what_it_would_delete_and_then_deletes_it(tmp_path, names):
    told = done(tmp_path, "models", "prune", "--keep", 1, "--dry-run").stdout
    assert told == f"{names[0]}\nwould delete 1 version in {tmp_path / 'models'}\n"
    assert len(asked_json(tmp_path, "models", "list")) == 3
    assert asked_json(tmp_path, "models", "prune", "--keep", 1) == {"deleted": [names[0]], "dry_run": False}
    assert [row["version"] for row in asked_json(tmp_path, "models", "list")] == names[:0:-1]
    assert run(tmp_path, "models", "prune", "--keep", 0).exit_code == 2
