-- what:   the labels of a snapshot
-- grain:  ticker, as_of
-- reads:  label_daily
-- params: since
SELECT
  ticker,
  as_of,
  forward_return,
  label_5d,
  is_delisted,
  known_on,
FROM label_daily
WHERE as_of >= $since
ORDER BY as_of, ticker
