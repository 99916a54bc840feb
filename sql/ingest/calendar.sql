-- what:   the sessions of the calendar with their hours
-- grain:  session
-- reads:  raw_calendar
-- params:
SELECT session, coalesce(closes_at, session + INTERVAL 390 MINUTE) AS closes_at, cutoff_at
FROM raw_calendar
ORDER BY session
