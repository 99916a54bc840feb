-- what:   what each variant of a backtest was worth, session by session, as sums that can be added up
-- grain:  variant, as_of
-- reads:  backtest_session
-- params: backtest_id
SELECT
  s.* EXCLUDE (backtest_id),
FROM backtest_session AS s
WHERE s.backtest_id = $backtest_id
ORDER BY variant, as_of
