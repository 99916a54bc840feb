-- what:   features that are unknown for more of the names to be scored than they may be, or for far more than lately
-- severity: by row
-- grain:  feature
-- reads:  feature_daily raw_calendar
-- params: as_of
WITH
-- Measured over 2021-2024 (983 sessions), highest share in brackets. fail: what needs at most the 60 bars that every
-- scoreable name has (0), its 61st (1 %), or a map that always answers (0): unknown is a fault of the build. warn: what
-- young names lack for 200 bars (4 %) or what another source must tell (PER 43 %, ROE 9 %, market cap 0.1 %).
-- is_optional: nobody knowing it at all is a store without that source, which feature_daily_dead_column says.
null_limit (feature, highest, severity, is_optional) AS (
  VALUES
    ('rsi', 0.01, 'fail', false),
    ('bb_pctb', 0.01, 'fail', false),
    ('bb_bandwidth', 0.01, 'fail', false),
    ('macd_histogram', 0.01, 'fail', false),
    ('macd_signal_cross', 0.01, 'fail', false),
    ('atr_pct', 0.01, 'fail', false),
    ('ema_50', 0.01, 'fail', false),
    ('ema_200', 0.10, 'warn', true),
    ('golden_cross', 0.10, 'warn', true),
    ('dead_cross', 0.10, 'warn', true),
    ('volume_ratio', 0.01, 'fail', false),
    ('bb_squeeze', 0.01, 'fail', false),
    ('return_3m_pct', 0.05, 'fail', false),
    ('high_52w_ratio', 0.01, 'fail', false),
    ('high_20d_ratio', 0.01, 'fail', false),
    ('mtf_aligned', 0.10, 'warn', true),
    ('weekly_trend_up', 0.10, 'warn', true),
    ('rs_percentile', 0.05, 'fail', false),
    ('vix', 0.0, 'warn', false),
    ('spx_change_pct', 0.0, 'warn', false),
    ('usdkrw', 0.0, 'warn', false),
    ('regime_encoded', 0.0, 'warn', false),
    ('per', 0.50, 'warn', true),
    ('roe', 0.15, 'warn', true),
    ('debt_ratio', 0.15, 'warn', true),
    ('market_cap_log', 0.05, 'warn', true),
    ('foreign_net_buy_days', 0.20, 'warn', true),
    ('institution_net_buy_days', 0.20, 'warn', true),
    ('sector_encoded', 0.0, 'fail', false),
    ('policy_bonus', 0.0, 'fail', false)
),
reference AS (
  SELECT session FROM raw_calendar WHERE session < $as_of ORDER BY session DESC LIMIT 20
),
session_share AS (
  SELECT
    as_of,
    count(*) AS n_names,
    1 - count(
      COLUMNS(* EXCLUDE (ticker, as_of, close, bars_available, null_feature_count, is_scoreable, feature_set_version))
    ) / nullif(count(*), 0),
  FROM feature_daily
  WHERE is_scoreable AND as_of BETWEEN (SELECT min(session) FROM reference) AND $as_of
  GROUP BY as_of
),
null_share AS (
  SELECT as_of, n_names, feature, share
  FROM session_share UNPIVOT (share FOR feature IN (COLUMNS(* EXCLUDE (as_of, n_names))))
),
usual AS (
  SELECT feature, median(share) AS share FROM null_share WHERE as_of < $as_of GROUP BY feature
)
SELECT
  n.feature,
  round(n.share, 4) AS null_share,
  l.highest::DOUBLE AS highest,
  round(u.share, 4) AS usual_share,
  l.severity,
FROM null_share AS n
JOIN null_limit AS l ON l.feature = n.feature
LEFT JOIN usual AS u ON u.feature = n.feature
WHERE n.as_of = $as_of
  AND n.n_names > 20
  AND (
    (n.share > l.highest AND NOT (l.is_optional AND n.share = 1))
    OR n.share - u.share > 0.10     -- exceeded where a source stops, and by PER where its monthly print is overdue
  )
ORDER BY l.severity, n.feature
