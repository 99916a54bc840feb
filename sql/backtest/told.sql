-- what:   by which settings a backtest was walked, and what trading was taken to cost
-- grain:  backtest_id
-- reads:  backtest
-- params: backtest_id
SELECT
  settings,
  costs,
  fingerprint,
FROM backtest
WHERE backtest_id = $backtest_id
