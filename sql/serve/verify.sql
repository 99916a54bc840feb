-- what:   everything that is wrong with a published file: facts that are not what they must be; empty = sound. Rows of the
--         sessions from start through end are looked at one by one, all others have been when they were first published
-- grain:  fact
-- reads:  prediction publication published_session session_digest model_card feature_latest window_latest latest ml_predictions
-- params: digest row_hash start end
WITH
counted AS (
  SELECT
    count(*) AS n_predictions,
    count(DISTINCT as_of) AS n_sessions,
    max(as_of) AS as_of,
    CAST(sum(hash(p)) AS VARCHAR) AS row_hash,
  FROM prediction AS p
),
looked_at AS (
  SELECT
    count(*) AS n_predictions,
    count(DISTINCT (as_of, ticker)) AS n_keys,
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
  WHERE as_of BETWEEN $start AND $end
),
stated AS (
  SELECT
    count(*) AS n_sessions,
    CAST(sum(n_predictions) AS BIGINT) AS n_predictions,
    sha256(string_agg(CAST(as_of AS VARCHAR) || digest, chr(10) ORDER BY as_of)) AS digest,
  FROM published_session
),
changed_since AS (
  SELECT count(*) AS n
  FROM session_digest AS d
  LEFT JOIN published_session AS s ON d.as_of = s.as_of
  WHERE d.as_of BETWEEN $start AND $end AND s.digest IS DISTINCT FROM d.digest
),
broken_window AS (
  SELECT f.ticker
  FROM window_latest AS f
  GROUP BY f.ticker
  HAVING count(DISTINCT f.as_of) <> 20 OR count(*) <> 20 OR max(f.as_of) <> (SELECT as_of FROM counted)
),
half_flagged AS (       -- whoever reads one row must learn what the others say
  SELECT as_of FROM prediction GROUP BY as_of HAVING count(DISTINCT coalesce(degraded_why, '')) > 1
),
fact AS (
  -- Rows that nothing but this program's own hash covers: names, and every number of older sessions
  SELECT 'hash of the rows' AS fact, CAST($row_hash AS VARCHAR) AS wanted, row_hash AS found
  FROM counted
  WHERE $row_hash IS NOT NULL
  UNION ALL
  SELECT 'number of sessions whose rows are not those of their digest', '0', CAST(n AS VARCHAR) FROM changed_since
  UNION ALL
  SELECT 'digest of the sessions', coalesce(CAST($digest AS VARCHAR), p.digest), s.digest
  FROM publication AS p CROSS JOIN stated AS s
  UNION ALL
  SELECT 'digest as stated', coalesce(CAST($digest AS VARCHAR), digest), digest FROM publication
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
  SELECT 'number of predictions of the sessions', CAST(p.n_predictions AS VARCHAR), CAST(s.n_predictions AS VARCHAR)
  FROM publication AS p CROSS JOIN stated AS s
  UNION ALL
  SELECT 'number of sessions', CAST(p.n_sessions AS VARCHAR), CAST(c.n_sessions AS VARCHAR)
  FROM publication AS p CROSS JOIN counted AS c
  UNION ALL
  SELECT 'number of sessions with a digest', CAST(p.n_sessions AS VARCHAR), CAST(s.n_sessions AS VARCHAR)
  FROM publication AS p CROSS JOIN stated AS s
  UNION ALL
  SELECT 'number of distinct (as_of, ticker)', CAST(n_predictions AS VARCHAR), CAST(n_keys AS VARCHAR) FROM looked_at
  UNION ALL
  SELECT 'number of probabilities outside 0 ... 1', '0', CAST(n_impossible AS VARCHAR) FROM looked_at
  UNION ALL
  SELECT 'number of explanations that are no list of names and numbers', '0', CAST(n_unreadable AS VARCHAR)
  FROM looked_at
  UNION ALL
  SELECT 'number of sessions of which only some rows are degraded', '0', CAST(count(*) AS VARCHAR) FROM half_flagged
  UNION ALL
  SELECT
    'hash of the newest rows',
    (SELECT CAST(sum(hash(p)) AS VARCHAR) FROM prediction AS p WHERE as_of = c.as_of),
    (SELECT CAST(sum(hash(l)) AS VARCHAR) FROM latest AS l)
  FROM counted AS c
  UNION ALL
  SELECT
    'rows of view ml_predictions',
    CAST((SELECT count(*) FROM prediction WHERE as_of = c.as_of) AS VARCHAR),
    CAST((SELECT count(*) FROM ml_predictions WHERE pred_date = c.as_of) AS VARCHAR)
  FROM counted AS c
  UNION ALL
  SELECT 'feature rows of another session', '0', CAST(count(*) AS VARCHAR)
  FROM feature_latest AS f
  CROSS JOIN counted AS c
  WHERE f.as_of <> c.as_of
  UNION ALL
  SELECT 'number of windows that are not 20 bars through as-of', '0', CAST(count(*) AS VARCHAR) FROM broken_window
)
SELECT fact, wanted, found
FROM fact
WHERE wanted IS DISTINCT FROM found
ORDER BY fact
