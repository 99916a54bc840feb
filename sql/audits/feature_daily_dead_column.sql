-- what:   features that are unknown for every ticker of the session, or the same for all of them: a source that stopped
-- severity: warn
-- grain:  feature
-- reads:  feature_daily
-- params: as_of
WITH
of_session AS (
  SELECT
    * EXCLUDE (
      as_of, close, bars_available, null_feature_count, is_scoreable, feature_set_version,
      vix, spx_change_pct, usdkrw, regime_encoded, golden_cross, dead_cross, policy_bonus
    )
  FROM feature_daily
  WHERE as_of = $as_of AND is_scoreable
),
cell AS (
  SELECT ticker, feature, value
  FROM of_session UNPIVOT INCLUDE NULLS (value FOR feature IN (COLUMNS(* EXCLUDE (ticker))))
)
SELECT feature, count(*) AS n_tickers, count(value) AS n_known, min(value) AS lowest, max(value) AS highest
FROM cell
GROUP BY feature
HAVING count(*) > 20 AND (count(value) = 0 OR min(value) = max(value))
ORDER BY feature
