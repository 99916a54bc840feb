"""Audits: each one finds the row it was made for, and is silent on a sound session."""

import json
import re
from datetime import date, datetime, timedelta

import duckdb
import polars as pl
import pytest

from factories import asked_json, store_rows
from factories import run as run_command
from hand_store import KNOWN, hand_store, listing, prices, put, weekdays
from kstock_batch.errors import AuditFailed, ConfigError
from kstock_batch.market.contract import FEATURE_NAMES, FEATURES
from kstock_batch.market.sessions import cutoff_at
from kstock_batch.settings import Settings
from kstock_batch.store.audits import (
    BY_ROW,
    audit_names,
    chosen_audits,
    kept_results,
    kept_sessions,
    record_audits,
    require_clean,
    run_audits,
)
from kstock_batch.store.ledger import recorded_run
from kstock_batch.store.queries import Query
from kstock_batch.store.warehouse import insert_rows

DAYS = weekdays(date(2024, 2, 5), 25)
TODAY = DAYS[-1]
SOUND = dict.fromkeys(FEATURE_NAMES, 0.5) | {
    "vix": 15.0,
    "usdkrw": 1300.0,
    "market_cap_log": 11.0,
    "policy_bonus": 5,
}


def features(n=30, as_of=TODAY, **changed):
    """Return a sound session of ``n`` tickers, with a value of the first one changed."""
    rows = []
    for i in range(n):
        varied = {name: value + i / 1000 for name, value in SOUND.items()}
        rows.append({"ticker": f"{i:05d}0", "as_of": as_of, **varied, **(changed if i == 0 else {})})
    frame = pl.DataFrame(rows, schema_overrides=dict.fromkeys(FEATURE_NAMES, pl.Float32))
    return frame.with_columns(
        close=pl.lit(100.0),
        bars_available=pl.lit(100),
        null_feature_count=pl.lit(0),
        is_scoreable=pl.lit(True),
        feature_set_version=pl.lit(1),
    )


def history(n=30):
    """Return the sound sessions before today's."""
    return pl.concat([features(n, day) for day in DAYS[:-1]])


def official(ticker, session, change_pct, *, close=100.0):
    """Return a row as the exchange printed it."""
    (row,) = prices(ticker, [session], [close])
    return row | {"price_basis": "raw", "change_pct": change_pct}


def found(tmp_path, frame, price_rows=(), **tables):
    """Return what each audit finds today; ``tables`` are rows of further raw tables."""
    with hand_store(tmp_path, DAYS) as warehouse:
        insert_rows(warehouse.con, "feature_daily", frame, order="ticker")
        put(warehouse, "raw_price", list(price_rows) or prices("000000", DAYS, [100] * len(DAYS)))
        for table, rows in tables.items():
            put(warehouse, table, rows, available_at=KNOWN)
        return {result.audit: result for result in run_audits(warehouse.con, TODAY)}


def offending(results):
    return {name for name, result in results.items() if result.n_offending}


def test_a_sound_session_passes_every_audit_with_and_without_a_past(tmp_path):
    for n, frame in enumerate((features(), pl.concat([history(), features()]))):
        results = found(tmp_path / str(n), frame)
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
    results = found(
        tmp_path, features(), [*prices("000000", DAYS, [100] * len(DAYS)), *prices("000000", DAYS[-1:], [100])]
    )
    assert "raw_price_unique" in offending(results)


@pytest.mark.parametrize("value", [None, 0.25])
def test_a_column_that_says_nothing_about_anyone_is_a_warning(tmp_path, value):
    dead = features().with_columns(roe=pl.lit(value, dtype=pl.Float32))
    results = found(tmp_path, dead)
    assert offending(results) == {"feature_daily_dead_column"}
    require_clean(list(results.values()))  # a warning stops nothing


def test_a_move_beyond_the_daily_limit_is_a_warning(tmp_path):
    results = found(tmp_path, features(), prices("000000", DAYS, [*[100] * 24, 131]))
    assert offending(results) == {"raw_price_daily_limit"}
    assert results["raw_price_daily_limit"].sample[0]["change_pct"] == 31
    assert results["raw_price_daily_limit"].severity == "warn"


def test_the_exchanges_own_change_decides_what_is_beyond_the_limit(tmp_path):
    """A capital reduction of 2:1 doubles the close and the base price with it; a true 31 % does not go through."""
    two = [*prices("000000", DAYS, [*[100] * 24, 202]), *prices("000010", DAYS, [100] * 25)]
    results = found(tmp_path, features(), [*two, official("000000", TODAY, 1.0), official("000010", TODAY, 31.0)])
    limit = results["raw_price_daily_limit"]
    assert [(row["ticker"], row["is_official"], row["change_pct"]) for row in limit.sample] == [("000010", True, 31.0)]


@pytest.mark.parametrize(("change_pct", "n_found"), [(300.0, 0), (-40.0, 0), (301.0, 1), (-41.0, 1)])
def test_a_first_day_may_rise_to_four_times_the_offering_price(tmp_path, change_pct, n_found):
    rows = [*prices("000000", DAYS, [100] * 25), official("000010", TODAY, change_pct)]
    assert found(tmp_path, features(), rows)["raw_price_daily_limit"].n_offending == n_found


def test_the_exchanges_rounding_is_not_beyond_the_limit(tmp_path):
    rows = [*prices("000000", DAYS, [*[1000] * 24, 1300]), official("000000", TODAY, 30.0)]
    assert offending(found(tmp_path, features(), rows)) == set()


def test_an_adjustment_that_was_missed_is_a_warning_and_a_market_of_them_a_failure(tmp_path):
    def rows(n_split):
        closes = {f"{i:05d}0": [*[10_000] * 24, 5_000 if i < n_split else 10_000] for i in range(10)}
        adjusted = [row for ticker, levels in closes.items() for row in prices(ticker, DAYS, levels)]
        return adjusted + [official(ticker, TODAY, 0.0) for ticker in closes]

    one = found(tmp_path / "one", features(), rows(1))["raw_price_official_change"]
    assert (one.verdict, one.n_offending) == ("warn", 1)
    assert one.sample[0]["adjusted_change_pct"] == -50
    many = found(tmp_path / "many", features(), rows(5))["raw_price_official_change"]
    assert (many.verdict, many.n_offending) == ("fail", 5)
    assert found(tmp_path / "none", features(), rows(0))["raw_price_official_change"].verdict == "pass"


def test_a_won_of_rounding_at_a_low_price_is_no_difference(tmp_path):
    rows = [*prices("000000", DAYS, [*[21] * 24, 22]), official("000000", TODAY, 0.31)]
    assert offending(found(tmp_path, features(), rows)) == set()


def test_raw_audits_look_at_the_newest_version_that_stands(tmp_path):
    """A corrected price is a row beside the old one; one that was retracted counts for nothing."""
    before = prices("000000", DAYS[:-1], [100] * 24)
    told, corrected, retracted = (
        prices("000000", [TODAY], [close])[0] | {"version": version, "retracted_at": at}
        for close, version, at in ((150, 1, None), (101, 2, None), (160, 3, KNOWN))
    )
    plain = [row | {"version": 1, "retracted_at": None} for row in before]
    assert offending(found(tmp_path / "sound", features(), [*plain, told, corrected, retracted])) == set()
    assert "raw_price_daily_limit" in offending(found(tmp_path / "told", features(), [*plain, told, retracted]))
    twice = found(tmp_path / "twice", features(), [*plain, told, corrected, corrected])
    assert twice["raw_price_unique"].sample == [
        {"ticker": "000000", "price_basis": "adjusted", "version": 2, "n_rows": 2}
    ]


@pytest.mark.parametrize(("n_today", "verdict"), [(30, "pass"), (29, "warn"), (26, "fail"), (0, "fail")])
def test_a_market_of_which_names_are_missing_is_found(tmp_path, n_today, verdict):
    frame = pl.concat([history(), features(n_today)]) if n_today else history()
    listings = [listing(f"{i:05d}0") for i in range(30)]
    coverage = found(tmp_path, frame, raw_listing=listings)["feature_daily_coverage"]
    assert coverage.verdict == verdict
    assert [row["n_names"] for row in coverage.sample] == ([n_today] if verdict != "pass" else [])


def with_nulls(feature, n, of=30):
    """Return a session on which the first ``n`` of its names do not know ``feature``."""
    is_unknown = pl.int_range(pl.len()) < n
    return features(of).with_columns(pl.when(is_unknown).then(None).otherwise(pl.col(feature)).alias(feature))


@pytest.mark.parametrize(
    ("feature", "n_unknown", "verdict"),
    [
        ("rsi", 1, "fail"),  # every scoreable name has the bars it takes
        ("sector_encoded", 1, "fail"),
        ("return_3m_pct", 1, "pass"),  # a name with exactly 60 bars
        ("ema_200", 2, "pass"),  # young names
        ("ema_200", 7, "warn"),
        ("per", 2, "pass"),
        ("per", 16, "warn"),
        ("vix", 30, "warn"),
        ("debt_ratio", 30, "pass"),  # no such source: a dead column, told once
    ],
)
def test_what_may_be_unknown_has_a_limit_a_feature(tmp_path, feature, n_unknown, verdict):
    results = found(tmp_path, with_nulls(feature, n_unknown))
    assert results["feature_daily_null_share"].verdict == verdict
    assert offending(results) <= {"feature_daily_null_share", "feature_daily_dead_column"}


def test_a_source_that_stops_is_found_by_what_was_known_before(tmp_path):
    before = history().with_columns(debt_ratio=pl.when(pl.int_range(pl.len()) % 30 > 0).then("debt_ratio"))
    for n, verdict in ((1, "pass"), (4, "pass"), (30, "warn")):
        results = found(tmp_path / str(n), pl.concat([before, with_nulls("debt_ratio", n)]))
        assert results["feature_daily_null_share"].verdict == verdict


def macro(series, newest):
    return {"series": series, "event_date": newest, "close": 15.0}


def test_a_source_that_is_older_than_it_may_be_is_named_with_its_age(tmp_path):
    rows = [macro("VIX", TODAY - timedelta(days=6)), macro("SP500", TODAY - timedelta(days=5))]
    fresh = found(tmp_path, features(), raw_macro=rows)["source_freshness"]
    newest = TODAY - timedelta(days=6)
    assert fresh.sample == [{"source": "VIX", "newest": newest, "age_days": 6, "max_age_days": 5, "severity": "warn"}]
    assert fresh.verdict == "warn"


def test_stale_prices_stop_the_night(tmp_path):
    results = found(tmp_path, features(), prices("000000", DAYS[:-1], [100] * 24))
    assert results["source_freshness"].sample[0]["source"] == "raw_price"
    with pytest.raises(AuditFailed, match="source_freshness"):
        require_clean(list(results.values()))


def test_what_was_learnt_after_the_cutoff_or_retracted_makes_nothing_fresh(tmp_path):
    old = macro("VIX", TODAY - timedelta(days=9))
    late = macro("VIX", TODAY - timedelta(days=1)) | {"available_at": cutoff_at(TODAY) + timedelta(minutes=1)}
    wrong = macro("VIX", TODAY - timedelta(days=2)) | {"available_at": KNOWN, "retracted_at": KNOWN}
    rows = pl.DataFrame(
        [old | {"available_at": KNOWN, "retracted_at": None}, late | {"retracted_at": None}, wrong],
        schema_overrides={"retracted_at": pl.Datetime},
    )
    assert found(tmp_path, features(), raw_macro=rows)["source_freshness"].sample[0]["age_days"] == 9


def test_a_few_late_filers_do_not_make_all_filings_fresh(tmp_path):
    old, new = TODAY - timedelta(days=300), TODAY - timedelta(days=60)
    rows = [{"ticker": f"{i:05d}0", "period_end": new if i < 3 else old, "equity": 1.0} for i in range(10)]
    (stale,) = found(tmp_path, features(), raw_financial=rows)["source_freshness"].sample
    assert (stale["source"], stale["newest"]) == ("raw_financial", old)


@pytest.fixture(scope="module")
def wide():
    """24 sessions of 300 names."""
    return history(300)


@pytest.mark.parametrize(
    ("feature", "changed"),
    [
        ("per", pl.col("per") * 100),  # another unit
        ("rsi", pl.lit(0.6)),  # one value for all
        ("roe", pl.when(pl.int_range(pl.len()) % 5 > 0).then("roe")),  # a fifth no longer known: NULL is a bin
        ("golden_cross", pl.lit(1.0)),  # by value
        ("ema_50", pl.col("ema_50") * 1.3),  # as the ratio to the close that models read
    ],
)
def test_a_cross_section_unlike_the_month_before_is_a_warning(tmp_path, wide, feature, changed):
    tonight = features(300).with_columns(changed.cast(pl.Float32).alias(feature))
    drift = found(tmp_path, pl.concat([wide, tonight]))["feature_daily_drift"]
    assert [row["feature"] for row in drift.sample] == [feature]
    assert drift.verdict == "warn"


def test_a_cross_section_like_the_month_before_is_none_however_the_won_level_moves(tmp_path, wide):
    split = features(300).with_columns(pl.col("macd_histogram", "ema_50", "ema_200", "close") / 50)
    assert found(tmp_path, pl.concat([wide, split]))["feature_daily_drift"].n_offending == 0


def test_every_contract_feature_has_a_range_a_null_limit_and_a_drift_limit_unless_it_has_no_spread():
    def limited(statement):
        return set(re.findall(r"^    \('(\w+)',", Query.load(statement).text, re.MULTILINE))

    market_wide = {feature.name for feature in FEATURES if feature.scope == "market_wide"}
    assert limited("audits/feature_daily_range") == set(FEATURE_NAMES)
    assert limited("audits/feature_daily_null_share") == set(FEATURE_NAMES)
    assert limited("views/feature_psi") == set(FEATURE_NAMES) - market_wide


def test_an_audit_whose_rows_say_how_grave_they_are_returns_a_severity_a_row(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse:
        for audit in chosen_audits():
            columns = audit.query.frame(warehouse.con, as_of=TODAY).columns
            assert ("severity" in columns) == (audit.severity == BY_ROW), audit.name


def test_every_audit_says_what_it_looks_for():
    for audit in chosen_audits():
        assert len(audit.what) > 25
        assert "\n" not in audit.what and "--" not in audit.what


# Kept results


def test_results_are_kept_once_a_session_and_audit_however_often_it_is_audited(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse:
        insert_rows(warehouse.con, "feature_daily", features(rsi=float("nan")), order="ticker")
        for n in (1, 2):
            with recorded_run(warehouse, "score", at=datetime(2024, 3, 11, n)) as run, warehouse.transaction() as con:
                record_audits(con, run_audits(con, TODAY), run)
        kept = warehouse.con.sql("SELECT audit, severity, n_offending, sample, run_id FROM audit_result").pl()
        assert sorted(kept["audit"]) == audit_names()
        assert kept["run_id"].unique().to_list() == [run.run_id]
        (finite,) = kept.filter(pl.col("audit") == "feature_daily_finite").rows(named=True)
        assert (finite["severity"], finite["n_offending"]) == ("fail", 1)
        assert json.loads(finite["sample"]) == [{"ticker": "000000", "feature": "rsi", "value": "nan"}]
        (session,) = kept_sessions(warehouse.con, 5)
        assert (session["n_audits"], session["n_failed"]) == (len(audit_names()), 2)
        assert "feature_daily_finite 1" in session["found"]
        assert [row["verdict"] for row in kept_results(warehouse.con, ["feature_daily_unique"], 5)] == ["pass"]


def test_a_night_keeps_what_its_audits_found_even_if_they_stop_it(trained_root):
    (newest,) = store_rows(trained_root, "SELECT as_of, count(*) FROM audit_result GROUP BY as_of")
    assert newest[1] == len(audit_names())
    with duckdb.connect(str(Settings(root=trained_root).store)) as con:
        con.execute("UPDATE feature_daily SET rsi = 101 WHERE as_of = $day AND is_scoreable", {"day": newest[0]})
    assert run_command(trained_root, "score", "--as-of", newest[0], "--force").exit_code == 4
    (kept,) = store_rows(
        trained_root, "SELECT severity, n_offending FROM audit_result WHERE audit = 'feature_daily_range'"
    )
    assert kept[0] == "fail"
    assert kept[1] > 20
    (session,) = asked_json(trained_root, "audit", "--history")
    assert (session["as_of"], session["n_failed"]) == (str(newest[0]), 1)
    (of_range,) = asked_json(trained_root, "audit", "feature_daily_range", "--history")
    assert of_range["verdict"] == "fail"


# The command


def test_one_audit_alone_shows_its_rows_up_to_the_limit(trained_root):
    (day,) = store_rows(trained_root, "SELECT max(as_of) FROM feature_daily")[0]
    with duckdb.connect(str(Settings(root=trained_root).store)) as con:
        con.execute("UPDATE feature_daily SET rsi = 101 WHERE as_of = $day AND is_scoreable", {"day": day})
    alone = run_command(trained_root, "audit", "feature_daily_range", "--limit", 4)
    assert alone.exit_code == 4
    assert alone.stdout.count(" rsi ") == 4
    assert "the first 4 shown (--limit)" in alone.stdout
    told = json.loads(run_command(trained_root, "audit", "feature_daily_range", "--json").stdout)
    assert len(told["audits"][0]["rows"]) == 20


def test_the_audits_can_be_listed_without_a_store(tmp_path):
    rows = asked_json(tmp_path, "audit", "--list")
    assert [row["audit"] for row in rows] == audit_names()
    assert {row["severity"] for row in rows} == {"fail", "warn", "fail or warn"}


def test_an_audit_that_does_not_exist_is_refused_by_name(tmp_path):
    with hand_store(tmp_path, DAYS) as warehouse, pytest.raises(ConfigError, match="no audit is called"):
        run_audits(warehouse.con, TODAY, ["feature_daily_uniqe"])
