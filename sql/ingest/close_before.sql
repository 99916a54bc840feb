-- what:   closes and volumes of the last session with prices before a day, by each basis
-- grain:  ticker, price_basis
-- reads:  raw_price
-- params: start
WITH
newest AS (
  SELECT price_basis, max(session) AS session
  FROM raw_price
  WHERE session < $start AND retracted_at IS NULL
  GROUP BY price_basis
)
SELECT p.ticker, p.price_basis, arg_max(p.close, p.version) AS close, arg_max(p.volume, p.version) AS volume
FROM raw_price AS p
JOIN newest AS n ON n.price_basis = p.price_basis AND n.session = p.session
WHERE p.retracted_at IS NULL
GROUP BY p.ticker, p.price_basis
ORDER BY p.ticker, p.price_basis
