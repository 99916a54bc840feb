-- what:   what came true of the sessions that a backtest scored
-- grain:  as_of, ticker
-- reads:  label_daily
-- params: start end
SELECT
  ticker,
  as_of,
  label_5d,
  forward_return,
  is_delisted,
  known_on,
FROM label_daily
WHERE as_of BETWEEN $start AND $end
ORDER BY as_of, ticker
