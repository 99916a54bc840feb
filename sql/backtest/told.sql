-- what:   by which settings a backtest was walked, and what trading was taken to cost
-- grain:  one row
-- reads:  backtest
-- params: backtest_id
SELECT
  settings,
  costs,
  fingerprint,
FROM backtest
WHERE backtest_id = $backtest_id
ORDER BY backtest_id
