-- what:   every session of the exchange with its number, for arithmetic in sessions
-- grain:  session
-- reads:  raw_calendar
-- params:
SELECT
  session,
  (row_number() OVER (ORDER BY session))::INTEGER AS session_number,
  coalesce(closes_at, session + INTERVAL 390 MINUTE) AS closes_at,
  cutoff_at,
FROM raw_calendar
