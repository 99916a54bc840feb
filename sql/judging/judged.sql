-- what:   the predictions of some sessions with what came true, where that is known, and what they are measured against
-- grain:  as_of, ticker
-- reads:  prediction label_daily floor_prediction early_return
-- params: sessions known_through
SELECT
  p.as_of,
  p.ticker,
  p.model_version,
  p.probability,
  p.base_rate,
  f.atr_pct,
  f.volatility,
  t.label_5d,
  t.known_on,
  e.return_1d,
  e.return_3d,
  t.forward_return,
FROM prediction AS p
LEFT JOIN label_daily AS t ON t.ticker = p.ticker AND t.as_of = p.as_of AND t.known_on <= $known_through
LEFT JOIN floor_prediction AS f ON f.ticker = p.ticker AND f.as_of = p.as_of
LEFT JOIN early_return AS e ON e.ticker = p.ticker AND e.as_of = p.as_of
WHERE list_contains(CAST($sessions AS DATE[]), p.as_of)
ORDER BY p.as_of, p.ticker
