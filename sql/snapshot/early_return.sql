-- what:   how far predicted stocks had come before the horizon, in a snapshot
-- grain:  as_of, ticker
-- reads:  early_return
-- params: since
SELECT t.*
FROM early_return AS t
WHERE t.as_of >= $since
ORDER BY t.as_of, t.ticker
