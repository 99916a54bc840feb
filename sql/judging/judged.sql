-- what:   the predictions of some matured sessions with what came true and what they are measured against
-- grain:  as_of, ticker
-- reads:  prediction label_daily floor_prediction early_return
-- params: sessions start end
-- Each table is cut to [$start, $end] by itself: constants let the scan skip all other sessions, a join's keys do not.
WITH
predicted AS (
  SELECT as_of, ticker, model_version, probability, base_rate
  FROM prediction
  WHERE as_of BETWEEN $start AND $end AND list_contains(CAST($sessions AS DATE[]), as_of)
),
outcome AS (
  SELECT as_of, ticker, label_5d, forward_return, known_on FROM label_daily WHERE as_of BETWEEN $start AND $end
),
floor AS (
  SELECT as_of, ticker, atr_pct, volatility FROM floor_prediction WHERE as_of BETWEEN $start AND $end
),
early AS (
  SELECT as_of, ticker, return_1d, return_3d FROM early_return WHERE as_of BETWEEN $start AND $end
)
SELECT
  p.as_of,
  p.ticker,
  p.model_version,
  p.probability,
  p.base_rate,
  f.atr_pct,
  f.volatility,
  o.label_5d,
  o.known_on,
  e.return_1d,
  e.return_3d,
  o.forward_return,
FROM predicted AS p
LEFT JOIN outcome AS o ON o.ticker = p.ticker AND o.as_of = p.as_of
LEFT JOIN floor AS f ON f.ticker = p.ticker AND f.as_of = p.as_of
LEFT JOIN early AS e ON e.ticker = p.ticker AND e.as_of = p.as_of
ORDER BY p.as_of, p.ticker
