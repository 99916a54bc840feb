-- what:   PSI of each feature against every fourth of the 20 sessions before, pooled, and the highest that is no finding
-- grain:  feature
-- reads:  feature_daily raw_calendar
-- params: as_of_
WITH
-- PSI = sum over bins of (p - q) ln(p / q). The textbook's 0.25 is for models of slow facts: the RSI of a whole market
-- moves that far in one bad day. So each limit lies above what all but the market's own breaks reached in the 983
-- sessions of 2021-2024: seven exceed one (2021-08-20, 2022-06-13, 06-23, 06-24 and 07-11, 2023-07-26, 2024-08-05), and
-- debt_ratio exceeds its own on 17, the end of its source. A column that became constant, or whose unit is wrong by
-- 100, scores about 6.
drift_limit (feature, is_by_value, highest) AS (
  VALUES
    ('rsi', false, 1.5),
    ('bb_pctb', false, 2.5),
    ('bb_bandwidth', false, 1.25),
    ('macd_histogram', false, 1.6),
    ('macd_signal_cross', true, 0.5),
    ('atr_pct', false, 0.9),
    ('ema_50', false, 1.5),
    ('ema_200', false, 0.6),
    ('golden_cross', true, 0.05),
    ('dead_cross', true, 0.05),
    ('volume_ratio', false, 1.0),
    ('bb_squeeze', true, 1.25),
    ('return_3m_pct', false, 1.0),
    ('high_52w_ratio', false, 0.25),
    ('high_20d_ratio', false, 1.5),
    ('mtf_aligned', true, 0.2),
    ('weekly_trend_up', true, 0.2),
    ('rs_percentile', false, 0.05),
    ('per', false, 0.15),
    ('roe', false, 0.1),
    ('debt_ratio', false, 0.25),
    ('market_cap_log', false, 0.1),
    ('foreign_net_buy_days', true, 1.0),
    ('institution_net_buy_days', true, 1.0),
    ('sector_encoded', true, 0.05),
    ('policy_bonus', true, 1.0)
),
session_before AS (
  SELECT session, row_number() OVER (ORDER BY session DESC) AS nth
  FROM raw_calendar
  WHERE session >= $as_of_ - INTERVAL 60 DAY AND session < $as_of_
),
reference AS (          -- every fourth one: the same names 20 times tell little more than 5 times, and cost 4 times as much
  SELECT session FROM session_before WHERE nth <= 20 AND nth % 4 = 1
),
stock AS (              -- as models see it: won columns as ratios; what is one value a session has no spread
  SELECT
    as_of = $as_of_ AS is_tonight,
    * EXCLUDE (
        ticker, as_of, close, bars_available, null_feature_count, is_scoreable, feature_set_version,
        vix, spx_change_pct, usdkrw, regime_encoded
      )
      REPLACE (
        (macd_histogram / close)::FLOAT AS macd_histogram,
        (close / nullif(ema_50, 0) - 1)::FLOAT AS ema_50,
        (close / nullif(ema_200, 0) - 1)::FLOAT AS ema_200
      ),
  FROM feature_daily
  WHERE is_scoreable
    -- The range is what lets the scan skip all other sessions.
    AND as_of BETWEEN (SELECT min(session) FROM reference) AND $as_of_
    AND (as_of = $as_of_ OR as_of IN (SELECT session FROM reference))
),
cross_section AS (
  SELECT count(*) FILTER (is_tonight) AS n_tonight, count(*) FILTER (NOT is_tonight) AS n_before FROM stock
),
cell AS MATERIALIZED (
  SELECT feature, is_tonight, value
  FROM stock UNPIVOT INCLUDE NULLS (value FOR feature IN (COLUMNS(* EXCLUDE (is_tonight))))
),
decile AS MATERIALIZED (     -- else the edges are sorted anew for each cell
  SELECT
    c.feature,
    list_sort(list_distinct(quantile_disc(c.value, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]))) AS edges,
  FROM cell AS c
  JOIN drift_limit AS l ON l.feature = c.feature
  WHERE NOT c.is_tonight AND NOT l.is_by_value
  GROUP BY c.feature
),
histogram AS (          -- bins are named by their upper edge, the last one by infinity; NULL is in none
  SELECT c.feature, c.is_tonight, histogram(c.value, d.edges) AS n_by_bin, count(*) - count(c.value) AS n_unknown
  FROM cell AS c
  JOIN decile AS d ON d.feature = c.feature
  GROUP BY c.feature, c.is_tonight
),
counted AS (            -- NULL is a bin of its own
  SELECT feature, is_tonight, unnest(map_keys(n_by_bin)) AS bin, unnest(map_values(n_by_bin)) AS n_names FROM histogram
  UNION ALL
  SELECT feature, is_tonight, NULL AS bin, n_unknown AS n_names FROM histogram
  UNION ALL
  SELECT c.feature, c.is_tonight, c.value AS bin, count(*) AS n_names
  FROM cell AS c
  JOIN drift_limit AS l ON l.feature = c.feature
  WHERE l.is_by_value
  GROUP BY c.feature, c.is_tonight, c.value
),
bin_count AS (
  SELECT
    feature,
    bin,
    coalesce(sum(n_names) FILTER (is_tonight), 0) AS n_tonight,
    coalesce(sum(n_names) FILTER (NOT is_tonight), 0) AS n_before,
  FROM counted
  WHERE n_names > 0
  GROUP BY feature, bin
),
bin_share AS (          -- a share under 1/1000 counts as 1/1000: two names of 2,000 say nothing
  SELECT
    b.feature,
    greatest(b.n_tonight / nullif(s.n_tonight, 0), 0.001) AS tonight,
    greatest(b.n_before / nullif(s.n_before, 0), 0.001) AS before,
  FROM bin_count AS b
  CROSS JOIN cross_section AS s
  WHERE s.n_tonight >= 200 AND s.n_before >= 1000     -- fewer are spread by chance
),
drift AS (
  SELECT feature, sum((tonight - before) * ln(tonight / before)) AS psi FROM bin_share GROUP BY feature
)
SELECT d.feature, round(d.psi, 3) AS psi, l.highest::DOUBLE AS highest
FROM drift AS d
JOIN drift_limit AS l ON l.feature = d.feature
ORDER BY d.feature
