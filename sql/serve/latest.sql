-- what:   the predictions of the newest session, best first: a table of its own, because its few rows lie together in two
--         blocks of the file, where a year's lie in one block a column, each of which the first question would read whole
-- grain:  ticker
-- reads:  prediction
-- params:
SELECT
  as_of,
  ticker,
  name,
  market,
  sector,
  probability,
  signal,
  label,
  score_bonus,
  base_rate,
  lift,
  rank,
  percentile,
  lgbm,
  xgb,
  lstm,
  shap_top3,
  model_version,
  fingerprint,
  run_id,
  scored_at,
  degraded_why,
FROM prediction
WHERE as_of = (SELECT max(as_of) FROM prediction)
ORDER BY rank, ticker
