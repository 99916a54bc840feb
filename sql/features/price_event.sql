-- what:   sessions from which a ticker's past prices read otherwise: the first night that could know of a correction
-- grain:  ticker, known_from
-- reads:  raw_price raw_calendar
-- params: basis checkpoint end known_at stored_at
WITH
correction AS (         -- another price or volume than before; the rest moves no feature
  SELECT DISTINCT p.ticker, p.available_at
  FROM raw_price AS p
  JOIN raw_calendar AS c ON c.session = p.session
  JOIN raw_price AS o
    ON o.ticker = p.ticker
    AND o.session = p.session
    AND o.price_basis = p.price_basis
    AND o.version = p.version - 1
  WHERE p.version > 1
    AND p.price_basis = $basis
    AND p.available_at > c.cutoff_at
    AND p.available_at <= $known_at
    AND is_held(p.ingested_at, p.retracted_at, $stored_at)
    AND (
      NOT is_held(o.ingested_at, o.retracted_at, $stored_at)
      OR (p.open, p.high, p.low, p.close, p.volume) IS DISTINCT FROM (o.open, o.high, o.low, o.close, o.volume)
      OR ($basis = 'raw' AND (p.change_pct, p.shares_outstanding) IS DISTINCT FROM (o.change_pct, o.shares_outstanding))
    )
),
known AS (
  SELECT DISTINCT e.ticker, c.session AS known_from
  FROM correction AS e
  ASOF JOIN raw_calendar AS c ON e.available_at <= c.cutoff_at
)
SELECT ticker, known_from
FROM known
WHERE known_from > $checkpoint AND known_from <= $end
ORDER BY ticker, known_from
