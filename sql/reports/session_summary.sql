-- what:   a session's predictions in a line
-- grain:  one row
-- reads:  prediction feature_daily
-- params: as_of
WITH
known AS (
  SELECT count(*) AS n_known FROM feature_daily WHERE as_of = $as_of
),
predicted AS (
  SELECT
    count(*) AS n_scored,
    any_value(model_version) AS model_version,
    any_value(base_rate) AS base_rate,
    avg(probability) AS mean_probability,
    min(scored_at) AS scored_at,
    any_value(degraded_why) AS degraded_why,
    count(*) FILTER (label = 'STRONG_BUY') AS n_strong_buy,
    count(*) FILTER (label = 'BUY') AS n_buy,
    count(*) FILTER (label = 'NEUTRAL') AS n_neutral,
    count(*) FILTER (label = 'AVOID') AS n_avoid,
  FROM prediction
  WHERE as_of = $as_of
)
SELECT
  p.n_scored,
  k.n_known,
  p.model_version,
  p.base_rate,
  p.mean_probability,
  p.scored_at,
  p.degraded_why,
  p.n_strong_buy,
  p.n_buy,
  p.n_neutral,
  p.n_avoid,
FROM predicted AS p
CROSS JOIN known AS k
ORDER BY p.model_version
