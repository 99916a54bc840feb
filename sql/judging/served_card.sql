-- what:   the newest scorecards known by a night, each with what its model version promised out of fold
-- grain:  as_of
-- reads:  scorecard model_promise
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
ORDER BY s.as_of DESC
LIMIT $n
