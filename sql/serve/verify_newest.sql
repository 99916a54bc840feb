-- what:   what is wrong with the tables and views of a published file's newest session; empty = sound
-- grain:  fact
-- reads:  prediction latest ml_predictions feature_latest window_latest
-- params: as_of
WITH
predicted AS (
  SELECT count(*) AS n_rows, CAST(sum(hash(p)) AS VARCHAR) AS row_hash
  FROM prediction AS p
  WHERE as_of = $as_of
),
held AS (
  SELECT CAST(sum(hash(l)) AS VARCHAR) AS row_hash FROM latest AS l
),
seen_by_bot AS (
  SELECT count(*) AS n_rows FROM ml_predictions WHERE pred_date = $as_of
),
other_feature AS (
  SELECT count(*) AS n_rows FROM feature_latest WHERE as_of <> $as_of
),
window_held AS (
  SELECT count(*) = 20 AND max(as_of) = $as_of AS is_whole
  FROM window_latest
  GROUP BY ticker
),
broken_window AS (
  SELECT count(*) AS n_windows FROM window_held WHERE NOT is_whole
),
fact AS (
  SELECT
    unnest([
      {'fact': 'hash of the newest rows', 'wanted': p.row_hash, 'found': h.row_hash},
      {
        'fact': 'rows of view ml_predictions',
        'wanted': CAST(p.n_rows AS VARCHAR),
        'found': CAST(s.n_rows AS VARCHAR)
      },
      {'fact': 'feature rows of another session', 'wanted': '0', 'found': CAST(f.n_rows AS VARCHAR)},
      {
        'fact': 'number of windows that are not 20 bars through as-of',
        'wanted': '0',
        'found': CAST(w.n_windows AS VARCHAR)
      }
    ], recursive := true),
  FROM predicted AS p
  CROSS JOIN held AS h
  CROSS JOIN seen_by_bot AS s
  CROSS JOIN other_feature AS f
  CROSS JOIN broken_window AS w
)
SELECT fact, wanted, found
FROM fact
WHERE wanted IS DISTINCT FROM found
ORDER BY fact
