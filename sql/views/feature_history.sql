-- what:   every row of feature for one ticker, oldest first
-- grain:  as_of
-- reads:  feature
-- params: ticker_
SELECT f.*
FROM feature AS f
WHERE f.ticker = $ticker_
ORDER BY f.as_of
