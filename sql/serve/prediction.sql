-- what:   the predictions of some sessions as they are published; newest session first, best first
-- grain:  as_of, ticker
-- reads:  named_prediction
-- params: start end
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
FROM named_prediction
WHERE as_of BETWEEN $start AND $end
-- The bot asks for one session or one ticker of the newest. Over 250 sessions, sorting by ticker instead makes a history
-- cheaper (2 ms, not 7) and a session dearer (39 ms, not 9).
ORDER BY as_of DESC, rank, ticker
