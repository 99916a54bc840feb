-- what:   the refits of a backtest: what each learnt from, its weights, and what the gate would have said of it
-- grain:  refit
-- reads:  backtest_refit
-- params: backtest_id
SELECT
  r.* EXCLUDE (backtest_id),
FROM backtest_refit AS r
WHERE r.backtest_id = $backtest_id
ORDER BY refit
