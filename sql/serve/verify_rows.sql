-- what:   what is wrong with the predictions of a published file: facts that are not what they must be; empty = sound.
--         Rows of the sessions from start through end are looked at one by one: all others were when they were published
-- grain:  fact
-- reads:  prediction publication model_card
-- params: row_hash start end
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
half_flagged AS (       -- whoever reads one row must learn what the others say
  SELECT count(*) AS n_sessions
  FROM (SELECT as_of FROM prediction GROUP BY as_of HAVING count(DISTINCT coalesce(degraded_why, '')) > 1)
),
-- No publication and two of them are one row here as well: a fault must not take the facts away.
stated AS (
  SELECT
    count(*) AS n_publications,
    min(as_of) AS as_of,
    min(n_predictions) AS n_predictions,
    min(n_sessions) AS n_sessions,
    min(CAST(to_json(model_version) AS VARCHAR)) AS model_version,
  FROM publication
),
carded AS (
  SELECT min(value) FILTER (key = 'version') AS model_version FROM model_card
),
-- One row of all facts, spread out: a union of small questions takes longer to plan than to answer.
fact AS (
  SELECT
    unnest([
      -- names, and every number of older sessions, are covered by nothing else
      {'fact': 'hash of the rows', 'wanted': coalesce(CAST($row_hash AS VARCHAR), c.row_hash), 'found': c.row_hash},
      {'fact': 'number of publications', 'wanted': '1', 'found': CAST(p.n_publications AS VARCHAR)},
      {'fact': 'model of the card', 'wanted': p.model_version, 'found': coalesce(m.model_version, p.model_version)},
      {'fact': 'as-of', 'wanted': CAST(p.as_of AS VARCHAR), 'found': CAST(c.as_of AS VARCHAR)},
      {
        'fact': 'number of predictions',
        'wanted': CAST(p.n_predictions AS VARCHAR),
        'found': CAST(c.n_predictions AS VARCHAR)
      },
      {'fact': 'number of sessions', 'wanted': CAST(p.n_sessions AS VARCHAR), 'found': CAST(c.n_sessions AS VARCHAR)},
      {
        'fact': 'number of distinct (as_of, ticker)',
        'wanted': CAST(l.n_predictions AS VARCHAR),
        'found': CAST(l.n_keys AS VARCHAR)
      },
      {'fact': 'number of probabilities outside 0 ... 1', 'wanted': '0', 'found': CAST(l.n_impossible AS VARCHAR)},
      {
        'fact': 'number of explanations that are no list of names and numbers',
        'wanted': '0',
        'found': CAST(l.n_unreadable AS VARCHAR)
      },
      {
        'fact': 'number of sessions of which only some rows are degraded',
        'wanted': '0',
        'found': CAST(h.n_sessions AS VARCHAR)
      }
    ], recursive := true),
  FROM counted AS c
  CROSS JOIN looked_at AS l
  CROSS JOIN stated AS p
  CROSS JOIN carded AS m
  CROSS JOIN half_flagged AS h
)
SELECT fact, wanted, found
FROM fact
WHERE wanted IS DISTINCT FROM found
ORDER BY fact
