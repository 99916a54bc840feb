-- what:   the features of every ticker in a range of sessions, whatever columns the table has
-- grain:  as_of, ticker
-- reads:  feature_daily
-- params: start end
SELECT t.*
FROM feature_daily AS t
WHERE t.as_of BETWEEN $start AND $end
ORDER BY t.as_of, t.ticker
