-- what:   the whole calendar, whatever the snapshot starts with: a session keeps its number
-- grain:  session
-- reads:  raw_calendar
-- params:
SELECT
  session,
  coalesce(closes_at, session + INTERVAL 390 MINUTE) AS closes_at,
  cutoff_at,
  available_at,
  ingested_at,
FROM raw_calendar
ORDER BY session
