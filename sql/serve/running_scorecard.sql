-- what:   what the predictions of the newest matured sessions were worth, beside what their model promised out of fold
-- grain:  model_version, span
-- reads:  running_scorecard
-- params:
SELECT
  model_version,
  span,
  n_sessions,
  first_session,
  last_session,
  n,
  forecast,
  hit_rate,
  lift,
  auc_day,
  auc_day_vol,
  log_loss,
  base_log_loss,
  floor_log_loss,
  brier_skill_pct,
  brier_skill_vol_pct,
  promised_auc_day,
  promised_auc_day_vol,
  promised_log_loss,
  promised_floor_log_loss,
  decile_error_pct,
FROM running_scorecard
ORDER BY model_version, span
