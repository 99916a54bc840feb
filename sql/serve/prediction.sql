-- what:   every prediction ever made, with the stock's name; newest session first, best first
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
-- The bot asks for one session or one ticker of the newest. Over 250 sessions, sorting by ticker instead makes a history
-- cheaper (2 ms, not 7) and a session dearer (39 ms, not 9).
ORDER BY p.as_of DESC, p.rank, p.ticker
