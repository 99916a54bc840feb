-- what:   what is wrong with the digests of a published file; empty = sound. Those of the sessions from start through end
--         are computed anew from their rows
-- grain:  fact
-- reads:  publication published_session session_digest
-- params: digest start end
WITH
kept AS (
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
stated AS (
  SELECT min(n_predictions) AS n_predictions, min(n_sessions) AS n_sessions, min(digest) AS digest FROM publication
),
fact AS (
  SELECT
    unnest([
      {
        'fact': 'number of sessions whose rows are not those of their digest',
        'wanted': '0',
        'found': CAST(d.n AS VARCHAR)
      },
      {'fact': 'digest of the sessions', 'wanted': coalesce(CAST($digest AS VARCHAR), p.digest), 'found': k.digest},
      {'fact': 'digest as stated', 'wanted': coalesce(CAST($digest AS VARCHAR), p.digest), 'found': p.digest},
      {
        'fact': 'number of predictions of the sessions',
        'wanted': CAST(p.n_predictions AS VARCHAR),
        'found': CAST(k.n_predictions AS VARCHAR)
      },
      {
        'fact': 'number of sessions with a digest',
        'wanted': CAST(p.n_sessions AS VARCHAR),
        'found': CAST(k.n_sessions AS VARCHAR)
      }
    ], recursive := true),
  FROM kept AS k
  CROSS JOIN changed_since AS d
  CROSS JOIN stated AS p
)
SELECT fact, wanted, found
FROM fact
WHERE wanted IS DISTINCT FROM found
ORDER BY fact
