-- what:   what came true: the adjusted close five sessions later, once that session has closed
-- grain:  ticker, as_of
-- reads:  raw_price raw_calendar raw_listing
-- params: start end horizon rise
WITH
price AS (
  SELECT ticker, session, close, volume FROM raw_price WHERE price_basis = 'adjusted'
),
newest AS (
  SELECT max(session) AS session FROM price
),
session_pair AS (
  SELECT session AS as_of, lead(session, $horizon::INTEGER) OVER (ORDER BY session) AS known_on FROM raw_calendar
),
bar AS (
  SELECT p.ticker, s.as_of, s.known_on, p.close
  FROM price AS p
  JOIN session_pair AS s ON s.as_of = p.session
  WHERE p.volume > 0
    AND p.session BETWEEN $start AND $end
    AND s.known_on <= (SELECT session FROM newest)
),
outcome AS (            -- the row of T+5, or the last one before it: a halted stock is worth its last close
  SELECT
    b.ticker,
    b.as_of,
    b.known_on,
    f.close / b.close - 1 AS forward_return,
    -- No row on T+5 alone may be a halt or a hole in the source. What the listing says was public that day, and does
    -- not change with the prices that come later.
    f.session < b.known_on AND coalesce(l.last_seen < b.known_on, l.ticker IS NULL) AS is_delisted,
  FROM bar AS b
  ASOF JOIN price AS f ON f.ticker = b.ticker AND b.known_on >= f.session
  LEFT JOIN raw_listing AS l ON l.ticker = b.ticker
)
SELECT
  ticker,
  as_of,
  forward_return,
  (forward_return >= $rise AND NOT is_delisted)::UTINYINT AS label_5d,
  is_delisted,
  known_on,
FROM outcome
ORDER BY ticker, as_of
