-- what:   every prediction ever made, with the stock's name, market and sector as they are listed now: what is published
-- grain:  as_of, ticker
-- reads:  prediction listing
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
  p.score_bonus,
  p.base_rate,
  p.lift,
  p.rank,
  p.percentile,
  p.lgbm,
  p.xgb,
  p.lstm,
  coalesce(p.shap_top3, '[]') AS shap_top3,
  p.model_version,
  p.fingerprint,
  p.run_id,
  p.scored_at,
  p.degraded_why,
FROM prediction AS p
LEFT JOIN listing AS l ON p.ticker = l.ticker
