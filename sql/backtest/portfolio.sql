-- what:   the daily course of each portfolio of a backtest
-- grain:  portfolio, as_of
-- reads:  backtest_portfolio
-- params: backtest_id
SELECT
  p.* EXCLUDE (backtest_id),
FROM backtest_portfolio AS p
WHERE p.backtest_id = $backtest_id
ORDER BY portfolio, as_of
