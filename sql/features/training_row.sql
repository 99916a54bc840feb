-- what:   stored feature rows with their position in time and, where it is known by $known_through, what came true
-- grain:  ticker, as_of
-- reads:  feature_daily label_daily raw_calendar
-- params: start end known_through
WITH
session AS (
  SELECT session, (row_number() OVER (ORDER BY session))::INTEGER AS session_number FROM raw_calendar
)
SELECT
  f.* EXCLUDE (null_feature_count, feature_set_version, bars_available),
  s.session_number,
  l.label_5d,
  l.forward_return,
FROM feature_daily AS f
JOIN session AS s ON s.session = f.as_of
LEFT JOIN label_daily AS l ON l.ticker = f.ticker AND l.as_of = f.as_of AND l.known_on <= $known_through
WHERE f.as_of BETWEEN $start AND $end
ORDER BY f.ticker, f.as_of
