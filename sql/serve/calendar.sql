-- what:   the sessions known from the first predicted one on, so that a reader can count how old a publication is
-- grain:  session
-- reads:  raw_calendar prediction
-- params:
SELECT session, cutoff_at
FROM raw_calendar
WHERE session >= (SELECT min(as_of) FROM prediction)
ORDER BY session
