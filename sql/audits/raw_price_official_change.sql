-- what:   adjusted returns that are not the change the exchange itself printed: a split the source missed, or two sources
--         that speak of different days
-- severity: by row
-- grain:  ticker
-- reads:  raw_price raw_calendar
-- params: as_of
WITH
recent AS (             -- five sessions find the close before of all that a source ever left out for a day or two
  SELECT session FROM raw_calendar WHERE session <= $as_of ORDER BY session DESC LIMIT 5
),
standing AS (
  SELECT
    ticker,
    session,
    arg_max(close, version) FILTER (price_basis = 'adjusted') AS close,
    arg_max(change_pct, version) FILTER (price_basis = 'raw') AS official_change_pct,
  FROM raw_price
  WHERE session BETWEEN (SELECT min(session) FROM recent) AND $as_of AND retracted_at IS NULL
  GROUP BY ticker, session
),
followed AS (
  SELECT *, lag(close) OVER (PARTITION BY ticker ORDER BY session) AS close_before
  FROM standing
  WHERE close IS NOT NULL
),
compared AS (
  SELECT
    ticker,
    close_before,
    close,
    official_change_pct,
    100 * (close / nullif(close_before, 0) - 1) AS adjusted_change_pct,
    -- Of 290,232 pairs of 2021-2024, 0.40 % differ by more than 0.05 points and 0.006 % by more than 1; half of those
    -- are one name at 22 won, where the source's rounding to a won is 4.5 points. One point and one won leave 8 rows,
    -- never two on a session, each of them an adjustment that was missed.
    1 + 100 / close_before AS tolerance,
  FROM followed
  WHERE session = $as_of AND official_change_pct IS NOT NULL AND close_before > 0
),
agreement AS (
  SELECT count(*) AS n_compared, count(*) FILTER (abs(adjusted_change_pct - official_change_pct) > tolerance) AS n_off
  FROM compared
)
SELECT
  c.ticker,
  c.close_before,
  c.close,
  round(c.adjusted_change_pct, 2) AS adjusted_change_pct,
  c.official_change_pct,
  -- One name wrong is one name; 1 % of a market (at least three) are 20 times what ever was, so the prices are others'.
  CASE WHEN a.n_off >= 3 AND a.n_off > 0.01 * a.n_compared THEN 'fail' ELSE 'warn' END AS severity,
FROM compared AS c
CROSS JOIN agreement AS a
WHERE abs(c.adjusted_change_pct - c.official_change_pct) > c.tolerance
ORDER BY severity, c.ticker
