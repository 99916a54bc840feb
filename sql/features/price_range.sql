-- what:   the first and the newest session with prices of a basis
-- grain:  one row
-- reads:  raw_price
-- params: basis
SELECT min(session) AS first_session, max(session) AS newest_session
FROM raw_price
WHERE price_basis = $basis AND retracted_at IS NULL
ORDER BY first_session
