-- what:   what a snapshot is of
-- grain:  one row
-- reads:  feature_daily schema_version
-- params: taken_at since fingerprint
SELECT
  CAST($taken_at AS TIMESTAMP) AS taken_at,
  min(as_of) AS from_session,
  max(as_of) AS through_session,
  count(*) AS n_features,
  CAST($fingerprint AS VARCHAR) AS fingerprint,
  (SELECT max(version) FROM schema_version) AS schema_version,
FROM feature_daily
WHERE as_of >= $since
ORDER BY taken_at
