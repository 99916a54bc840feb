-- what:   the stored feature rows that a backtest can reach, each with its place among them by ticker and session
-- grain:  as_of, ticker
-- reads:  feature_daily
-- params: start end
SELECT
  f.*,
  row_number() OVER (ORDER BY f.ticker, f.as_of) - 1 AS place,
FROM feature_daily AS f
WHERE f.as_of BETWEEN $start AND $end
ORDER BY f.as_of, f.ticker
