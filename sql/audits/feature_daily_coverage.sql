-- what:   markets of which markedly fewer names can be scored than the median of the 20 sessions before
-- severity: by row
-- grain:  market
-- reads:  feature_daily raw_listing raw_calendar
-- params: as_of
WITH
reference AS (
  SELECT session FROM raw_calendar WHERE session < $as_of ORDER BY session DESC LIMIT 20
),
listing AS (
  SELECT ticker, arg_max(market, version) AS market FROM raw_listing WHERE retracted_at IS NULL GROUP BY ticker
),
session_count AS (
  SELECT l.market, f.as_of, count(*) AS n_names
  FROM feature_daily AS f
  JOIN listing AS l ON l.ticker = f.ticker
  WHERE f.is_scoreable
    AND l.market IN ('KOSPI', 'KOSDAQ')
    AND f.as_of BETWEEN (SELECT min(session) FROM reference) AND $as_of
  GROUP BY l.market, f.as_of
),
usual AS (              -- one halted name of a dozen is no hole, and three sessions are no habit
  SELECT market, median(n_names) AS n_usual
  FROM session_count
  WHERE as_of < $as_of
  GROUP BY market
  HAVING median(n_names) >= 20 AND count(*) >= 5
),
coverage AS (
  SELECT u.market, coalesce(s.n_names, 0) AS n_names, u.n_usual, coalesce(s.n_names, 0) / u.n_usual AS share
  FROM usual AS u
  LEFT JOIN session_count AS s ON s.market = u.market AND s.as_of = $as_of
)
-- The lowest share of 2021-2024 was 0.987 (KOSDAQ, the suspensions of April 2024): 0.97 never warned on 983 sessions.
-- A tenth of a market missing is a hole in a source or a fault of the build, and no ranking of that market.
SELECT
  market,
  n_names,
  n_usual,
  round(share, 4) AS share,
  CASE WHEN share < 0.90 THEN 'fail' ELSE 'warn' END AS severity,
FROM coverage
WHERE share < 0.97
ORDER BY severity, market
