-- what:   prices stored twice for the session
-- grain:  ticker, price_basis
-- reads:  raw_price
-- params: as_of
SELECT ticker, price_basis, count(*) AS n_rows
FROM raw_price
WHERE session = $as_of
GROUP BY ticker, price_basis
HAVING count(*) > 1
ORDER BY ticker, price_basis
