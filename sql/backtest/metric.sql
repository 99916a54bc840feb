-- what:   every figure of a backtest, with its interval
-- grain:  variant, scope, metric
-- reads:  backtest_metric
-- params: backtest_id
SELECT
  variant,
  scope,
  metric,
  value,
  low,
  high,
  n_sessions,
FROM backtest_metric
WHERE backtest_id = $backtest_id
ORDER BY variant, scope, metric
