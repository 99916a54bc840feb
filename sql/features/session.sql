-- what:   every session of the exchange with its position in time
-- grain:  session
-- reads:  raw_calendar
-- params:
SELECT
  session,
  (row_number() OVER (ORDER BY session))::INTEGER AS session_number,
FROM raw_calendar
ORDER BY session
