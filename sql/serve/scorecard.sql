-- what:   what each session's predictions were worth once their outcomes were known; newest first
-- grain:  as_of
-- reads:  scorecard
-- params:
SELECT
  as_of,
  model_version,
  known_on,
  n_predictions,
  n,
  n_hits,
  probability_sum,
  log_loss_sum,
  brier_sum,
  base_log_loss_sum,
  base_brier_sum,
  floor_log_loss_sum,
  floor_brier_sum,
  auc,
  auc_vol_sum,
  n_auc_vol,
FROM scorecard
ORDER BY as_of DESC
