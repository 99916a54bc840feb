-- what:   features that are NaN or infinite: missing is NULL, so these are bugs
-- grain:  ticker, feature
-- reads:  feature_daily
-- params: as_of
WITH
of_session AS (
  SELECT * EXCLUDE (as_of, bars_available, null_feature_count, is_scoreable, feature_set_version)
  FROM feature_daily
  WHERE as_of = $as_of
),
cell AS (
  UNPIVOT of_session ON COLUMNS(* EXCLUDE (ticker)) INTO NAME feature VALUE value
)
SELECT ticker, feature, value
FROM cell
WHERE NOT isfinite(value)
ORDER BY ticker, feature
