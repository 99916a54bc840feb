-- what:   the exchange's own closes of stocks that traded, as they stand
-- grain:  ticker, session
-- reads:  raw_price
-- params: start end
SELECT ticker, session, arg_max(close, version) AS close
FROM raw_price
WHERE session BETWEEN $start AND $end AND price_basis = 'raw' AND retracted_at IS NULL
GROUP BY ticker, session
HAVING arg_max(volume, version) > 0
ORDER BY ticker, session
