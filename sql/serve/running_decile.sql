-- what:   what came true in each tenth of the sessions' probabilities, over the spans of the running scorecard
-- grain:  model_version, span, decile
-- reads:  running_decile
-- params:
SELECT
  model_version,
  span,
  decile,
  n_sessions,
  n,
  forecast,
  hit_rate,
  return_1d_pct,
  return_3d_pct,
  return_5d_pct,
FROM running_decile
ORDER BY model_version, span, decile
