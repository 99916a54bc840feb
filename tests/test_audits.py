"""Audits: each one finds the row it was made for, and is silent on a sound session."""

from datetime import date

import polars as pl
import pytest

from hand_store import hand_store, prices, put, weekdays
from kstock_batch.errors import AuditFailed, ConfigError
from kstock_batch.market.contract import FEATURE_NAMES
from kstock_batch.store.audits import audit_names, require_clean, run_audits
from kstock_batch.store.warehouse import insert_rows

DAYS = weekdays(date(2024, 3, 4), 6)
TODAY = DAYS[-1]


def features(n=30, **changed):
    """Return a sound session of ``n`` tickers, with a value of the first one changed."""
    sound = dict.fromkeys(FEATURE_NAMES, 0.5) | {
        "vix": 15.0,
        "usdkrw": 1300.0,
        "market_cap_log": 11.0,
        "policy_bonus": 5,
    }
    rows = []
    for i in range(n):
        varied = {name: value + i / 1000 for name, value in sound.items()}
        rows.append({"ticker": f"{i:05d}0", "as_of": TODAY, **varied, **(changed if i == 0 else {})})
    frame = pl.DataFrame(rows, schema_overrides=dict.fromkeys(FEATURE_NAMES, pl.Float32))
    return frame.with_columns(
        close=pl.lit(100.0),
        bars_available=pl.lit(100),
        null_feature_count=pl.lit(0),
        is_scoreable=pl.lit(True),
        feature_set_version=pl.lit(1),
    )


def found(tmp_path, frame, price_rows=()):
    with hand_store(tmp_path, DAYS) as warehouse:
        insert_rows(warehouse.con, "feature_daily", frame, order="ticker")
        put(warehouse, "raw_price", list(price_rows) or prices("000000", DAYS, [100] * 6))
        return {result.audit: result for result in run_audits(warehouse.con, TODAY)}


def offending(results):
    return {name for name, result in results.items() if result.n_offending}


def test_a_sound_session_passes_every_audit(tmp_path):
    results = found(tmp_path, features())
    assert sorted(results) == audit_names()
    assert offending(results) == set()
    require_clean(list(results.values()))


@pytest.mark.parametrize(
    ("changed", "audits"),
    [
        ({"rsi": 100.5}, {"feature_daily_range"}),
        ({"rsi": float("nan")}, {"feature_daily_finite", "feature_daily_range"}),
        ({"per": -3.0}, {"feature_daily_range"}),
        ({"volume_ratio": float("inf")}, {"feature_daily_finite", "feature_daily_range"}),
        ({"market_cap_log": 3.0}, {"feature_daily_range"}),
    ],
)
def test_a_value_that_cannot_be_is_found_and_named(tmp_path, changed, audits):
    results = found(tmp_path, features(**changed))
    assert offending(results) == audits
    with pytest.raises(AuditFailed, match=next(iter(changed))):
        require_clean(list(results.values()))


def test_a_ticker_stored_twice_is_found(tmp_path):
    results = found(tmp_path, pl.concat([features(), features(1)]))
    assert offending(results) == {"feature_daily_unique"}


def test_a_price_stored_twice_is_found(tmp_path):
    results = found(tmp_path, features(), [*prices("000000", DAYS, [100] * 6), *prices("000000", DAYS[-1:], [100])])
    assert "raw_price_unique" in offending(results)


@pytest.mark.parametrize("value", [None, 0.25])
def test_a_column_that_says_nothing_about_anyone_is_a_warning(tmp_path, value):
    dead = features().with_columns(roe=pl.lit(value, dtype=pl.Float32))
    results = found(tmp_path, dead)
    assert offending(results) == {"feature_daily_dead_column"}
    require_clean(list(results.values()))  # a warning stops nothing


def test_a_move_beyond_the_daily_limit_is_a_warning(tmp_path):
    results = found(tmp_path, features(), prices("000000", DAYS, [100, 100, 100, 100, 100, 131]))
    assert offending(results) == {"raw_price_daily_limit"}
    assert results["raw_price_daily_limit"].sample[0]["change_pct"] == 31
    assert results["raw_price_daily_limit"].severity == "warn"


def test_an_audit_that_does_not_exist_is_refused_by_name(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse, pytest.raises(ConfigError, match="no audit is called"):
        run_audits(warehouse.con, TODAY, ["feature_daily_uniqe"])
