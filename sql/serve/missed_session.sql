-- what:   sessions before the night's that nobody predicted although predictions had begun, with what could be scored
-- grain:  session
-- reads:  raw_calendar prediction feature_session
-- params: as_of
WITH
predicted AS (
  SELECT DISTINCT as_of FROM prediction
),
past AS (
  SELECT session, row_number() OVER (ORDER BY session DESC) AS n_back
  FROM raw_calendar
  WHERE session < $as_of AND session > (SELECT min(as_of) FROM predicted)
),
missed AS (
  SELECT session, n_back FROM past WHERE session NOT IN (SELECT as_of FROM predicted)
)
SELECT
  m.session,
  coalesce(f.n_scoreable, 0) AS n_scoreable,
  m.n_back,
FROM missed AS m
LEFT JOIN feature_session AS f ON f.as_of = m.session
ORDER BY m.session
