-- what:   everything that is wrong with a published file: facts that are not what they must be; empty = sound
-- grain:  fact
-- reads:  prediction publication model_card feature_latest latest ml_predictions content_digest
-- params: digest
WITH
counted AS (
  SELECT
    count(*) AS n_predictions,
    count(DISTINCT (as_of, ticker)) AS n_keys,
    count(DISTINCT as_of) AS n_sessions,
    max(as_of) AS as_of,
    -- NaN is greater than every number to DuckDB, so BETWEEN refuses it too
    count(*) FILTER (NOT (
      probability BETWEEN 0 AND 1
      AND signal BETWEEN 0 AND 1
      AND coalesce(lgbm, 0) BETWEEN 0 AND 1
      AND coalesce(xgb, 0) BETWEEN 0 AND 1
      AND coalesce(lstm, 0) BETWEEN 0 AND 1
    )) AS n_impossible,
    -- json_valid would let NaN pass, which a strict reader refuses
    count(*) FILTER (NOT coalesce(
      regexp_full_match(shap_top3, '\[(\["[^"]+", -?[0-9.]+(e[+-]?[0-9]+)?\](, )?)*\]'), false
    )) AS n_unreadable,
  FROM prediction
),
half_flagged AS (       -- whoever reads one row must learn what the others say
  SELECT as_of FROM prediction GROUP BY as_of HAVING count(DISTINCT coalesce(degraded_why, '')) > 1
),
fact AS (
  SELECT 'digest of the rows' AS fact, CAST($digest AS VARCHAR) AS wanted, digest AS found FROM content_digest
  UNION ALL
  SELECT 'digest as stated', CAST($digest AS VARCHAR), digest FROM publication
  UNION ALL
  SELECT 'number of publications', '1', CAST(count(*) AS VARCHAR) FROM publication
  UNION ALL
  SELECT 'model of the card', CAST(to_json(p.model_version) AS VARCHAR), c.value
  FROM publication AS p
  JOIN model_card AS c ON c.key = 'version'
  UNION ALL
  SELECT 'as-of', CAST(p.as_of AS VARCHAR), CAST(c.as_of AS VARCHAR) FROM publication AS p CROSS JOIN counted AS c
  UNION ALL
  SELECT 'number of predictions', CAST(p.n_predictions AS VARCHAR), CAST(c.n_predictions AS VARCHAR)
  FROM publication AS p CROSS JOIN counted AS c
  UNION ALL
  SELECT 'number of sessions', CAST(p.n_sessions AS VARCHAR), CAST(c.n_sessions AS VARCHAR)
  FROM publication AS p CROSS JOIN counted AS c
  UNION ALL
  SELECT 'number of distinct (as_of, ticker)', CAST(n_predictions AS VARCHAR), CAST(n_keys AS VARCHAR) FROM counted
  UNION ALL
  SELECT 'number of probabilities outside 0 ... 1', '0', CAST(n_impossible AS VARCHAR) FROM counted
  UNION ALL
  SELECT 'number of explanations that are no list of names and numbers', '0', CAST(n_unreadable AS VARCHAR) FROM counted
  UNION ALL
  SELECT 'number of sessions of which only some rows are degraded', '0', CAST(count(*) AS VARCHAR) FROM half_flagged
  UNION ALL
  SELECT
    'rows of view latest',
    CAST((SELECT count(*) FROM prediction WHERE as_of = c.as_of) AS VARCHAR),
    CAST((SELECT count(*) FROM latest) AS VARCHAR)
  FROM counted AS c
  UNION ALL
  SELECT
    'rows of view ml_predictions',
    CAST(n_predictions AS VARCHAR),
    CAST((SELECT count(*) FROM ml_predictions) AS VARCHAR)
  FROM counted
  UNION ALL
  SELECT 'feature rows of another session', '0', CAST(count(*) AS VARCHAR)
  FROM feature_latest AS f
  CROSS JOIN counted AS c
  WHERE f.as_of <> c.as_of
)
SELECT fact, wanted, found
FROM fact
WHERE wanted IS DISTINCT FROM found
ORDER BY fact
