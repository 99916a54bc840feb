"""A store with a year of nights in it, made of numbers drawn in SQL: benchmarks of publishing and reading use it."""

from datetime import date
from pathlib import Path

from kstock_batch.market.contract import FEATURE_NAMES
from kstock_batch.market.sessions import krx_sessions
from kstock_batch.settings import Settings
from kstock_batch.store.warehouse import Warehouse

FIRST, LAST = date(2025, 9, 1), date(2026, 10, 30)

_CALENDAR = """
    INSERT INTO raw_calendar BY NAME
    SELECT session, session + TIME '09:30' AS cutoff_at, session + TIME '09:30' AS available_at,
      session + TIME '09:30' AS ingested_at
    FROM days
"""
_LISTING = """
    INSERT INTO raw_listing
    SELECT format('{:06d}', 10 * n), format('표본종목{:04d}', n), ['KOSPI', 'KOSDAQ'][1 + n % 2],
      ['반도체', '운송', '게임', '화장품', '철강'][1 + n % 5], NULL, false, false, NULL, NULL, 'made',
      session + TIME '09:30', session + TIME '09:30', 1, NULL
    FROM range($n_tickers) AS stock (n), (SELECT min(session) AS session FROM raw_calendar)
"""
_FEATURES = """
    INSERT INTO feature_daily BY NAME
    SELECT l.ticker, c.session AS as_of, {values}, CAST(10000 * random() AS FLOAT) AS close, 300 AS bars_available,
      0 AS null_feature_count, true AS is_scoreable, 1 AS feature_set_version
    FROM raw_listing AS l, raw_calendar AS c
    WHERE c.session <= $last
    ORDER BY as_of, ticker
"""
_PREDICTIONS = """
    INSERT INTO prediction BY NAME
    SELECT as_of, ticker, p AS probability, p AS signal, 'NEUTRAL' AS label, 0 AS score_bonus, 0.24 AS base_rate,
      p / 0.24 AS lift, row_number() OVER session AS rank, 100.0 * percent_rank() OVER session AS percentile,
      random() AS lgbm, random() AS xgb, random() AS lstm,
      '20261028T093000Z-1f3a9c' AS model_version, 'abc' AS fingerprint,
      strftime(as_of, '%Y%m%dT093000Z-1f3a9c') AS run_id, as_of + TIME '09:40' AS scored_at,
      format('[["vol_20d_rank", {{:.4f}}], ["rsi", {{:.4f}}], ["per_rank", {{:.4f}}]]', random(), random(), -random())
        AS shap_top3
    FROM (SELECT as_of, ticker, random() AS p FROM feature_daily WHERE as_of IN
      (SELECT DISTINCT as_of FROM feature_daily ORDER BY as_of DESC LIMIT $n_sessions))
    WINDOW session AS (PARTITION BY as_of ORDER BY p DESC)
    ORDER BY as_of, ticker
"""


def made_store(root: Path, *, n_sessions: int = 250, n_tickers: int = 2500) -> Warehouse:
    """Return a new store, open for writing, with ``n_sessions`` nights of ``n_tickers`` predictions each."""
    warehouse = Warehouse.open(Settings(root=root))
    con = warehouse.con
    con.execute("SELECT setseed(0.5)")
    con.execute(
        "CREATE TEMP TABLE days AS SELECT unnest($days) AS session",
        {"days": list(krx_sessions(FIRST, date(2026, 12, 30)))},
    )
    con.execute(_CALENDAR)
    con.execute(_LISTING, {"n_tickers": n_tickers})
    values = ", ".join(f"CAST(100 * random() AS FLOAT) AS {name}" for name in FEATURE_NAMES)
    con.execute(_FEATURES.format(values=values), {"last": LAST})
    con.execute(_PREDICTIONS.replace("{{", "{").replace("}}", "}"), {"n_sessions": n_sessions})
    con.execute("CHECKPOINT")
    return warehouse
