-- what:   every version of every stock's listing
-- grain:  ticker, version
-- reads:  raw_listing
-- params:
SELECT l.*
FROM raw_listing AS l
ORDER BY l.ticker, l.version
