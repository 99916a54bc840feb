-- what:   whether a session stands scored by this model from the features as they are now
-- grain:  one row
-- reads:  prediction feature_build
-- params: as_of model_version fingerprint
WITH
stored AS (
  SELECT count(*) AS n_rows, max(scored_at) AS scored_at, count(DISTINCT (model_version, fingerprint)) AS n_keys
  FROM prediction
  WHERE as_of = $as_of AND model_version = $model_version AND fingerprint = $fingerprint
),
rebuilt AS (
  SELECT count(*) AS n_builds
  FROM feature_build
  WHERE $as_of BETWEEN from_session AND through_session AND built_at >= (SELECT scored_at FROM stored)
)
SELECT stored.n_rows > 0 AND rebuilt.n_builds = 0 AS is_scored
FROM stored
CROSS JOIN rebuilt
ORDER BY is_scored
