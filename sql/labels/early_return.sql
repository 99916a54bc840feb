-- what:   how far each predicted stock had come one and three sessions later, by the newest version of each price
-- grain:  as_of, ticker
-- reads:  prediction price raw_calendar price_action
-- params: sessions start basis
WITH
session_after AS (
  SELECT
    session AS as_of,
    lead(session, 1) OVER (ORDER BY session) AS after_1d,
    lead(session, 3) OVER (ORDER BY session) AS after_3d,
  FROM raw_calendar
),
due AS (
  SELECT as_of, after_1d, after_3d
  FROM session_after
  WHERE list_contains(CAST($sessions AS DATE[]), as_of)
),
near AS (               -- $start is the first of the sessions: a constant, so that all older prices are skipped unread
  SELECT ticker, session, close FROM price WHERE price_basis = $basis AND session >= $start
),
bar AS (                -- in the level of the ticker's first bar
  SELECT n.ticker, n.session, n.close / coalesce(a.cumulative, 1) AS close
  FROM near AS n
  ASOF LEFT JOIN price_action AS a ON a.ticker = n.ticker AND n.session >= a.session
),
met AS (
  SELECT p.as_of, p.ticker, d.after_1d, b.session, b.close
  FROM prediction AS p
  JOIN due AS d ON d.as_of = p.as_of
  JOIN bar AS b ON b.ticker = p.ticker AND b.session BETWEEN d.as_of AND d.after_3d
)
SELECT
  as_of,
  ticker,
  -- Without a row that day the last one before it counts, as in the label: a halted stock is worth its last close.
  arg_max(close, session) FILTER (session <= after_1d) / nullif(arg_min(close, session), 0) - 1 AS return_1d,
  arg_max(close, session) / nullif(arg_min(close, session), 0) - 1 AS return_3d,
FROM met
GROUP BY as_of, ticker
HAVING min(session) = as_of
ORDER BY as_of, ticker
