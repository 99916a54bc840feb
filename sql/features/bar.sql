-- what:   one row per bar: a session on which the ticker traded, with its adjusted prices and the night's flows
-- grain:  ticker, session
-- reads:  raw_price raw_calendar raw_flow
-- params: end
SELECT
  p.ticker,
  p.session,
  c.cutoff_at,
  p.open,
  p.high,
  p.low,
  p.close,
  p.volume::DOUBLE AS volume,
  f.foreign_net,
  f.institution_net,
FROM raw_price AS p
JOIN raw_calendar AS c ON c.session = p.session
LEFT JOIN raw_flow AS f ON f.ticker = p.ticker AND f.session = p.session AND f.available_at <= c.cutoff_at
WHERE p.price_basis = 'adjusted' AND p.volume > 0 AND p.session <= $end AND p.available_at <= c.cutoff_at
ORDER BY p.ticker, p.session
