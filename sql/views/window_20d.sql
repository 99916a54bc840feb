-- what:   the 20 bars a model reads for one ticker and session, oldest first; no rows where there is no such window
-- grain:  as_of
-- reads:  feature session
-- params: ticker_ as_of_
WITH
-- 20 bars span at most 40 sessions exactly if they lie within the last 40; said this way round, few rows are read.
recent AS (
  SELECT session
  FROM session
  WHERE session <= $as_of_::DATE
  ORDER BY session DESC
  LIMIT 40
),
bar AS (
  SELECT f.*
  FROM feature AS f
  WHERE f.ticker = $ticker_ AND f.as_of BETWEEN (SELECT min(session) FROM recent) AND $as_of_::DATE
  ORDER BY f.as_of DESC
  LIMIT 20
),
-- A window ends on a bar: on a session without a trade there is none.
found AS (
  SELECT count(*) AS n_bars, max(as_of) AS newest FROM bar
)
SELECT b.*
FROM bar AS b
JOIN found AS n ON n.n_bars = 20 AND n.newest = $as_of_::DATE
ORDER BY b.as_of
