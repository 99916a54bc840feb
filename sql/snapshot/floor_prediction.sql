-- what:   what the volatility floor said, in a snapshot
-- grain:  as_of, ticker
-- reads:  floor_prediction
-- params: since
SELECT t.*
FROM floor_prediction AS t
WHERE t.as_of >= $since
ORDER BY t.as_of, t.ticker
