-- what:   the features of a snapshot; 50 sessions at a time lie together, each ticker's in a row within them
-- grain:  ticker, as_of
-- reads:  feature_daily raw_calendar
-- params: since
WITH
-- Sorted so, both one session of all tickers and one ticker's history are few blocks.
session AS (
  SELECT session, row_number() OVER (ORDER BY session) // 50 AS session_group FROM raw_calendar
)
SELECT f.*
FROM feature_daily AS f
JOIN session AS s ON s.session = f.as_of
WHERE f.as_of >= $since
ORDER BY s.session_group, f.ticker, f.as_of
