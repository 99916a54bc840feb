-- what:   every prediction with the stock, what the volatility floor said and, once it is known, what came true
-- grain:  as_of, ticker
-- reads:  prediction listing label_daily floor_prediction early_return
-- params:
SELECT
  p.as_of,
  p.ticker,
  l.name,
  l.market,
  l.sector,
  p.probability,
  p.signal,
  p.label,
  p.rank,
  p.base_rate,
  p.lgbm,
  p.xgb,
  p.lstm,
  p.model_version,
  p.degraded_why,
  f.volatility,
  e.return_1d,
  e.return_3d,
  t.label_5d,
  t.forward_return,
  t.known_on,
FROM prediction AS p
LEFT JOIN listing AS l ON l.ticker = p.ticker
LEFT JOIN label_daily AS t ON t.ticker = p.ticker AND t.as_of = p.as_of
LEFT JOIN floor_prediction AS f ON f.ticker = p.ticker AND f.as_of = p.as_of
LEFT JOIN early_return AS e ON e.ticker = p.ticker AND e.as_of = p.as_of
