-- what:   the probabilities served on some sessions and what came true
-- grain:  as_of, ticker
-- reads:  prediction label_daily
-- params: start sessions
SELECT p.as_of, p.ticker, p.probability, t.label_5d
FROM prediction AS p
JOIN label_daily AS t ON t.ticker = p.ticker AND t.as_of = p.as_of
WHERE p.as_of >= $start
  AND t.as_of >= $start
  AND list_contains(CAST($sessions AS DATE[]), p.as_of)
ORDER BY p.as_of, p.ticker
