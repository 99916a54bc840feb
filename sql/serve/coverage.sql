-- what:   how many names of each market were scored, beside those that could be and the median of the 20 sound
--         sessions predicted before
-- grain:  market
-- reads:  feature_daily prediction listing
-- params: as_of tickers
WITH
scored AS (
  SELECT unnest(CAST($tickers AS VARCHAR[])) AS ticker
),
name_count AS (
  SELECT l.market, count(*) AS n_scoreable, count(s.ticker) AS n_scored
  FROM feature_daily AS f
  JOIN listing AS l ON l.ticker = f.ticker
  LEFT JOIN scored AS s ON s.ticker = f.ticker
  WHERE f.as_of = $as_of AND f.is_scoreable
  GROUP BY l.market
),
session_count AS (
  SELECT l.market, p.as_of, count(*) AS n_names
  FROM prediction AS p
  JOIN listing AS l ON l.ticker = p.ticker
  WHERE p.as_of IN (
    SELECT DISTINCT as_of
    FROM prediction
    WHERE as_of < $as_of AND degraded_why IS NULL
    ORDER BY as_of DESC
    LIMIT 20
  )
  GROUP BY l.market, p.as_of
),
usual AS (              -- one halted name of a dozen is no hole, and three sessions are no habit
  SELECT market, median(n_names) AS n_usual
  FROM session_count
  GROUP BY market
  HAVING median(n_names) >= 20 AND count(*) >= 5
)
SELECT
  coalesce(n.market, u.market) AS market,
  coalesce(n.n_scored, 0) AS n_scored,
  coalesce(n.n_scoreable, 0) AS n_scoreable,
  u.n_usual,
FROM name_count AS n
FULL JOIN usual AS u ON u.market = n.market
ORDER BY market
