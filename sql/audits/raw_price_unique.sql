-- what:   prices stored twice for the session under one version
-- grain:  ticker, price_basis, version
-- reads:  raw_price
-- params: as_of
SELECT ticker, price_basis, version, count(*) AS n_rows
FROM raw_price
WHERE session = $as_of AND retracted_at IS NULL
GROUP BY ticker, price_basis, version
HAVING count(*) > 1
ORDER BY ticker, price_basis, version
