-- what:   daily bars in the level of the ticker's first bar, with the value traded, of the basis features are made from
-- grain:  ticker, session
-- reads:  price price_action
-- params: start end basis
WITH
own AS (
  SELECT ticker, session, open, high, low, close, volume, traded_value
  FROM price
  WHERE price_basis = $basis AND session BETWEEN $start AND $end
),
printed AS (            -- what the exchange says was traded, whichever basis it came with
  SELECT ticker, session, max(traded_value) AS traded_value
  FROM price
  WHERE session BETWEEN $start AND $end AND traded_value IS NOT NULL
  GROUP BY ticker, session
)
SELECT
  o.ticker,
  o.session,
  o.open / coalesce(a.cumulative, 1) AS open,
  o.high / coalesce(a.cumulative, 1) AS high,
  o.low / coalesce(a.cumulative, 1) AS low,
  o.close / coalesce(a.cumulative, 1) AS close,
  o.volume,
  coalesce(p.traded_value, o.traded_value, o.close * o.volume) AS traded_value,
FROM own AS o
LEFT JOIN printed AS p ON p.ticker = o.ticker AND p.session = o.session
ASOF LEFT JOIN price_action AS a ON a.ticker = o.ticker AND o.session >= a.session
ORDER BY o.ticker, o.session
