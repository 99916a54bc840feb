-- what:   every row of feature for one session
-- grain:  ticker
-- reads:  feature
-- params: as_of_
SELECT f.*
FROM feature AS f
WHERE f.as_of = $as_of_::DATE
ORDER BY f.ticker
