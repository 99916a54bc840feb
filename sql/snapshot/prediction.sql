-- what:   the predictions of a snapshot
-- grain:  as_of, ticker
-- reads:  prediction
-- params: since
SELECT p.*
FROM prediction AS p
WHERE p.as_of >= $since
ORDER BY p.as_of, p.rank, p.ticker
