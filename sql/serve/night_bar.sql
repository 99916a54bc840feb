-- what:   the stored bars that a night's windows are made of, with their position in time; nothing of what came after
-- grain:  ticker, as_of
-- reads:  feature_daily raw_calendar
-- params: start end
WITH
session AS (
  SELECT session, (row_number() OVER (ORDER BY session))::INTEGER AS session_number FROM raw_calendar
)
SELECT
  f.* EXCLUDE (null_feature_count, feature_set_version, bars_available),
  s.session_number,
FROM feature_daily AS f
JOIN session AS s ON s.session = f.as_of
WHERE f.as_of BETWEEN $start AND $end
ORDER BY f.ticker, f.as_of
