-- what:   one number over the values of each small table; when and by which run it was published is no news to a target
-- grain:  relation
-- reads:  publication model_card calendar
-- params:
WITH
fact AS (
  SELECT * EXCLUDE (published_at, run_id) FROM publication
),
digest AS (
  SELECT 'publication' AS relation, CAST(sum(hash(fact)) AS VARCHAR) AS digest FROM fact
  UNION ALL
  SELECT 'model_card', CAST(sum(hash(model_card)) AS VARCHAR) FROM model_card
  UNION ALL
  SELECT 'calendar', CAST(sum(hash(calendar)) AS VARCHAR) FROM calendar
)
SELECT relation, digest
FROM digest
ORDER BY relation
