-- what:   what came true after the bars that a backtest can reach, as far as its last night knew it
-- grain:  as_of, ticker
-- reads:  label_daily
-- params: start end
SELECT
  as_of,
  ticker,
  forward_return,
  label_5d,
  is_delisted,
  known_on,
FROM label_daily
WHERE as_of >= $start AND known_on <= $end
ORDER BY as_of, ticker
