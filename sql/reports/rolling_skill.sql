-- what:   ranking and skill of what was served, over the 20 judged sessions that end on each; skill is the part of the
--         floor's Brier score that is saved
-- grain:  as_of
-- reads:  scorecard
-- params: n
SELECT
  as_of,
  avg(auc) OVER last_20 AS auc_day,
  100 * (1 - sum(brier_sum) OVER last_20 / nullif(sum(base_brier_sum) OVER last_20, 0)) AS over_base_rate_pct,
  100 * (
    1 - sum(brier_sum) FILTER (floor_brier_sum IS NOT NULL) OVER last_20 / nullif(sum(floor_brier_sum) OVER last_20, 0)
  ) AS over_volatility_pct,
  count(*) OVER last_20 AS n_sessions,
FROM scorecard
WINDOW last_20 AS (ORDER BY as_of ROWS BETWEEN 19 PRECEDING AND CURRENT ROW)
QUALIFY row_number() OVER (ORDER BY as_of DESC) <= $n AND count(*) OVER last_20 >= 5   -- fewer are chance
ORDER BY as_of
