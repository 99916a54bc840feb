-- what:   features stored twice for a ticker
-- grain:  ticker
-- reads:  feature_daily
-- params: as_of
SELECT ticker, count(*) AS n_rows
FROM feature_daily
WHERE as_of = $as_of
GROUP BY ticker
HAVING count(*) > 1
ORDER BY ticker
