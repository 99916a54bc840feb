-- what:   the stored features of the newest session, whatever columns the table has
-- grain:  ticker
-- reads:  feature_daily
-- params:
SELECT f.*
FROM feature_daily AS f
WHERE f.as_of = (SELECT max(as_of) FROM feature_daily)
ORDER BY f.ticker
