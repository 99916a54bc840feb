-- what:   the last session whose prices were known, and held by this store, at two instants
-- grain:  one row
-- reads:  raw_price
-- params: basis known_at stored_at
SELECT max(session) AS session
FROM raw_price
WHERE available_at <= $known_at AND price_basis = $basis AND is_held(ingested_at, retracted_at, $stored_at)
ORDER BY session
