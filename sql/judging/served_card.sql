-- what:   the newest scorecards known by a night, but of degraded sessions, each with what its model version promised out of fold
-- grain:  as_of
-- reads:  scorecard model_promise prediction
-- params: as_of n
SELECT
  s.as_of,
  s.model_version,
  s.n,
  s.log_loss_sum,
  s.floor_log_loss_sum,
  s.brier_sum,
  s.base_brier_sum,
  s.floor_brier_sum,
  s.auc,
  p.floor_log_loss - p.log_loss AS promised_gain,
  p.auc_day AS promised_auc,
  p.n_sessions AS n_promised,
FROM scorecard AS s
LEFT JOIN model_promise AS p ON p.model_version = s.model_version
WHERE s.known_on <= $as_of
  -- What was published although something was missing says nothing about the model
  AND s.as_of NOT IN (SELECT as_of FROM prediction WHERE degraded_why IS NOT NULL)
ORDER BY s.as_of DESC
LIMIT $n
