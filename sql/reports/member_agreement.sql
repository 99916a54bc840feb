-- what:   what each member says in each tenth of a session's blend
-- grain:  decile
-- reads:  prediction
-- params: as_of
WITH
placed AS (
  SELECT ntile(10) OVER (ORDER BY probability, ticker) AS decile, probability, lgbm, xgb, lstm
  FROM prediction
  WHERE as_of = $as_of
)
SELECT
  decile,
  count(*) AS n,
  avg(probability) AS blend,
  avg(lgbm) AS lgbm,
  avg(xgb) AS xgb,
  avg(lstm) AS lstm,
FROM placed
GROUP BY decile
ORDER BY decile
