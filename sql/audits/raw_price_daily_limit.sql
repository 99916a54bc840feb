-- what:   moves beyond the exchange's ±30 % limit, by its own change where it is stored, else by the adjusted close
-- severity: warn
-- grain:  ticker
-- reads:  raw_price raw_calendar
-- params: as_of
WITH
-- The limit counts from the base price, which a split or a capital reduction moves and the last close does not tell: so
-- the exchange's own change decides where there is one. Among 322,523 official rows of 2021-2024, 24 exceed 30 %: 5 first
-- days of trading, which may rise to four times the offering price, and 19 days of liquidation trading, which has no
-- limit and is rightly shown. 30.005 is 30 % as printed with two decimals.
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
  SELECT *, lag(session) OVER by_ticker AS session_before, lag(close) OVER by_ticker AS close_before
  FROM standing
  WINDOW by_ticker AS (PARTITION BY ticker ORDER BY session)
),
move AS (
  SELECT
    ticker,
    session_before IS NULL AS is_first_day,
    official_change_pct IS NOT NULL AS is_official,
    close_before,
    close,
    coalesce(official_change_pct, 100 * (close / nullif(close_before, 0) - 1)) AS change_pct,
  FROM followed
  WHERE session = $as_of
)
SELECT ticker, is_official, close_before, close, round(change_pct, 2) AS change_pct
FROM move
-- Adjusted closes are rounded to a won, which is half a point at 100 won: what no official row confirms gets that much.
WHERE abs(change_pct) > CASE WHEN is_official THEN 30.005 ELSE 30.5 END
  AND NOT (is_official AND is_first_day AND change_pct BETWEEN -40 AND 300)
ORDER BY ticker
