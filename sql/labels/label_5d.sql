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
level AS (              -- in force from one corporate action until the next
  SELECT a.ticker, a.session, min(b.session) AS until, any_value(a.cumulative) AS cumulative
  FROM price_action AS a
  LEFT JOIN price_action AS b ON b.ticker = a.ticker AND b.session > a.session
  GROUP BY a.ticker, a.session
),
price AS (              -- all in the level of the ticker's first bar
  SELECT s.ticker, s.session, s.close / coalesce(l.cumulative, 1) AS close, s.volume
  FROM standing AS s
  LEFT JOIN level AS l
    ON l.ticker = s.ticker AND s.session >= l.session AND (s.session < l.until OR l.until IS NULL)
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
  LEFT JOIN listing AS l ON l.ticker = b.ticker
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
