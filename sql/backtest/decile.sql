-- what:   hit rates and returns by tenths of a session, of the blend and of both floors
-- grain:  variant, scope, decile
-- reads:  backtest_decile
-- params: backtest_id
SELECT
  d.* EXCLUDE (backtest_id),
FROM backtest_decile AS d
WHERE d.backtest_id = $backtest_id
ORDER BY variant, scope, decile
