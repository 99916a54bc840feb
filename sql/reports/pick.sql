-- what:   the stocks with the highest and the lowest probabilities of a session
-- grain:  ticker
-- reads:  named_prediction
-- params: as_of n
WITH
session_size AS (
  SELECT count(*) AS n_names FROM named_prediction WHERE as_of = $as_of
)
SELECT
  p.ticker,
  p.name,
  p.market,
  p.sector,
  p.probability,
  p.signal,
  p.label,
  p.lift,
  p.rank,
  p.lgbm,
  p.xgb,
  p.lstm,
  p.shap_top3,
FROM named_prediction AS p
CROSS JOIN session_size AS s
WHERE p.as_of = $as_of AND (p.rank <= $n OR p.rank > s.n_names - $n)
ORDER BY p.rank, p.ticker
