-- what:   features outside the range their definition allows
-- grain:  ticker, feature
-- reads:  feature_daily
-- params: as_of
WITH
allowed (feature, low, high) AS (
  VALUES
    ('rsi', 0.0, 100.0),
    ('bb_pctb', -0.6, 1.6),     -- of 20 values none lies further than 4.25 sd from their mean
    ('bb_bandwidth', 0.0, 1e9),
    ('macd_histogram', -1e9, 1e9),
    ('macd_signal_cross', -1.0, 1.0),
    ('atr_pct', 0.0, 1e9),
    ('ema_50', 0.0, 1e9),
    ('ema_200', 0.0, 1e9),
    ('golden_cross', 0.0, 1.0),
    ('dead_cross', 0.0, 1.0),
    ('volume_ratio', 0.0, 20.001),
    ('bb_squeeze', 0.0, 1.0),
    ('return_3m_pct', -100.0, 1e9),
    ('high_52w_ratio', 0.0, 1.0),
    ('high_20d_ratio', 0.0, 1.0),
    ('mtf_aligned', 0.0, 1.0),
    ('weekly_trend_up', 0.0, 1.0),
    ('rs_percentile', 0.0, 100.0),
    ('vix', 5.0, 200.0),
    ('spx_change_pct', -25.0, 25.0),
    ('usdkrw', 500.0, 5000.0),
    ('regime_encoded', 0.0, 2.0),
    ('per', 0.0, 1e9),
    ('roe', -1e9, 1e9),
    ('debt_ratio', -1e9, 1e9),
    ('market_cap_log', 6.0, 17.0),
    ('foreign_net_buy_days', -5.0, 5.0),
    ('institution_net_buy_days', -5.0, 5.0),
    ('sector_encoded', 0.0, 999.0),
    ('policy_bonus', 0.0, 20.0)
),
of_session AS (
  SELECT * EXCLUDE (as_of, close, bars_available, null_feature_count, is_scoreable, feature_set_version)
  FROM feature_daily
  WHERE as_of = $as_of
),
cell AS (
  UNPIVOT of_session ON COLUMNS(* EXCLUDE (ticker)) INTO NAME feature VALUE value
)
SELECT c.ticker, c.feature, c.value, a.low, a.high
FROM cell AS c
JOIN allowed AS a ON a.feature = c.feature
WHERE c.value NOT BETWEEN a.low AND a.high
ORDER BY c.ticker, c.feature
