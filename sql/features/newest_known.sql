-- what:   the last session whose prices were known at an instant
-- grain:  one row
-- reads:  raw_price
-- params: known_at basis
SELECT max(session) AS session
FROM raw_price
WHERE available_at <= $known_at AND price_basis = $basis AND retracted_at IS NULL
ORDER BY session
