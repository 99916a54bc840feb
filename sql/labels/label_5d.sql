-- what:   what came true: the adjusted close five sessions later, once that session has closed
-- grain:  ticker, as_of
-- reads:  raw_price raw_calendar raw_listing price_action
-- params: start end basis horizon rise
WITH
revised AS (
  SELECT ticker, session, max(version) AS version
  FROM raw_price
  WHERE version > 1 AND price_basis = $basis AND retracted_at IS NULL
  GROUP BY ticker, session
),
standing AS (           -- the newest version of each price
  SELECT p.ticker, p.session, p.close, p.volume
  FROM raw_price AS p
  LEFT JOIN revised AS r ON r.ticker = p.ticker AND r.session = p.session
  WHERE p.price_basis = $basis
    AND p.session >= $start
    AND p.retracted_at IS NULL
    AND p.version = coalesce(r.version, 1)
),
price AS (              -- all in the level of the ticker's first bar; few tickers ever had a corporate action
  SELECT ticker, session, close, volume
  FROM standing
  WHERE ticker NOT IN (SELECT ticker FROM price_action)
  UNION ALL
  SELECT s.ticker, s.session, s.close / coalesce(a.cumulative, 1) AS close, s.volume
  FROM (SELECT * FROM standing WHERE ticker IN (SELECT ticker FROM price_action)) AS s
  ASOF LEFT JOIN price_action AS a ON a.ticker = s.ticker AND s.session >= a.session
),
listing AS (
  SELECT ticker, last_seen
  FROM raw_listing
  WHERE retracted_at IS NULL
  QUALIFY row_number() OVER (PARTITION BY ticker ORDER BY version DESC) = 1
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
met AS (                -- nearly all have a row on T+5, and looking that up takes half the time of searching
  SELECT b.ticker, b.as_of, b.known_on, b.close, f.close AS close_then
  FROM bar AS b
  LEFT JOIN price AS f ON f.ticker = b.ticker AND f.session = b.known_on
),
outcome AS (            -- without one the last row before it counts: a halted stock is worth its last close
  SELECT ticker, as_of, known_on, close_then / close - 1 AS forward_return, false AS is_gone
  FROM met
  WHERE close_then IS NOT NULL
  UNION ALL
  SELECT m.ticker, m.as_of, m.known_on, f.close / m.close - 1 AS forward_return, true AS is_gone
  FROM (SELECT ticker, as_of, known_on, close FROM met WHERE close_then IS NULL) AS m
  ASOF JOIN price AS f ON f.ticker = m.ticker AND m.known_on >= f.session
),
told AS (
  SELECT
    o.ticker,
    o.as_of,
    o.known_on,
    o.forward_return,
    -- No row on T+5 alone may be a halt or a hole in the source. What the listing says was public that day, and does
    -- not change with the prices that come later.
    o.is_gone AND coalesce(l.last_seen < o.known_on, l.ticker IS NULL) AS is_delisted,
  FROM outcome AS o
  LEFT JOIN listing AS l ON l.ticker = o.ticker
)
SELECT
  ticker,
  as_of,
  forward_return,
  (forward_return >= $rise AND NOT is_delisted)::UTINYINT AS label_5d,
  is_delisted,
  known_on,
FROM told
ORDER BY as_of, ticker
