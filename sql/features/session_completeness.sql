-- what:   how many names each market printed on the session, beside its median over the 20 sessions before
-- grain:  market
-- reads:  raw_price listing
-- params: as_of basis
WITH
session_count AS (
  SELECT l.market, p.session, count(DISTINCT p.ticker) AS n_rows
  FROM raw_price AS p
  JOIN listing AS l ON l.ticker = p.ticker
  WHERE p.price_basis = $basis
    AND p.retracted_at IS NULL
    AND l.market IN ('KOSPI', 'KOSDAQ')
    AND p.session BETWEEN $as_of - INTERVAL 60 DAY AND $as_of
  GROUP BY l.market, p.session
),
recent AS (
  SELECT market, session, n_rows
  FROM session_count
  WHERE session < $as_of
  QUALIFY row_number() OVER (PARTITION BY market ORDER BY session DESC) <= 20
),
usual AS (
  SELECT market, median(n_rows) AS n_rows FROM recent GROUP BY market
)
SELECT
  u.market,
  coalesce(s.n_rows, 0) AS n_rows,
  u.n_rows AS n_usual,
  coalesce(s.n_rows, 0) / u.n_rows AS share,
FROM usual AS u
LEFT JOIN session_count AS s ON s.market = u.market AND s.session = $as_of
ORDER BY u.market
