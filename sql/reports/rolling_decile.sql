-- what:   how many rose in the highest and the lowest tenth, and of all, over the 20 judged sessions that end on each
-- grain:  as_of
-- reads:  scorecard_decile
-- params: n
WITH
session_hit AS (
  SELECT
    as_of,
    sum(n_hits) FILTER (decile = 10) AS top_hits,
    sum(n) FILTER (decile = 10) AS top_n,
    sum(n_hits) FILTER (decile = 1) AS bottom_hits,
    sum(n) FILTER (decile = 1) AS bottom_n,
    sum(n_hits) AS all_hits,
    sum(n) AS all_n,
  FROM scorecard_decile
  GROUP BY as_of
)
SELECT
  as_of,
  sum(top_hits) OVER last_20 / nullif(sum(top_n) OVER last_20, 0) AS top,
  sum(all_hits) OVER last_20 / nullif(sum(all_n) OVER last_20, 0) AS everyone,
  sum(bottom_hits) OVER last_20 / nullif(sum(bottom_n) OVER last_20, 0) AS bottom,
FROM session_hit
WINDOW last_20 AS (ORDER BY as_of ROWS BETWEEN 19 PRECEDING AND CURRENT ROW)
QUALIFY row_number() OVER (ORDER BY as_of DESC) <= $n AND count(*) OVER last_20 >= 5   -- fewer are chance
ORDER BY as_of
