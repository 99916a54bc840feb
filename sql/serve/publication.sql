-- what:   what a publication is: its reach, its origin and the digest of its predictions
-- grain:  one row
-- reads:  prediction
-- params: schema_version published_at run_id digest
WITH
session AS (
  SELECT
    as_of,
    count(*) AS n_predictions,
    min(model_version) AS model_version,
    min(fingerprint) AS fingerprint,
    min(degraded_why) AS degraded_why,
  FROM prediction
  GROUP BY as_of
),
newest AS (
  SELECT as_of, model_version, fingerprint, degraded_why FROM session ORDER BY as_of DESC LIMIT 1
),
total AS (
  SELECT CAST(sum(n_predictions) AS BIGINT) AS n_predictions, count(*) AS n_sessions FROM session
)
SELECT
  CAST($schema_version AS INTEGER) AS schema_version,
  newest.as_of,
  (SELECT max(as_of) FROM session WHERE session.as_of < newest.as_of) AS previous_as_of,
  CAST($published_at AS TIMESTAMP) AS published_at,
  CAST($run_id AS VARCHAR) AS run_id,
  total.n_predictions,
  total.n_sessions,
  newest.model_version,
  newest.fingerprint,
  CAST($digest AS VARCHAR) AS digest,
  newest.degraded_why,
FROM newest
CROSS JOIN total
ORDER BY newest.as_of
