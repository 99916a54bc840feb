-- what:   every session of the exchange with its position in time and the instant its night knows up to
-- grain:  session
-- reads:  raw_calendar
-- params:
SELECT
  session,
  (row_number() OVER (ORDER BY session))::INTEGER AS session_number,
  cutoff_at,
FROM raw_calendar
ORDER BY session
