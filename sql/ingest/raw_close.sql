-- what:   the exchange's own closes as they stand, of stocks that did not trade too
-- grain:  ticker, session
-- reads:  raw_price
-- params: start end
SELECT ticker, session, arg_max(close, version) AS close
FROM raw_price
WHERE session BETWEEN $start AND $end AND price_basis = 'raw' AND retracted_at IS NULL
GROUP BY ticker, session
ORDER BY ticker, session
