-- what:   the retrains that the gate refused since it let one pass: how many, since when, and what it said of the newest;
--         a retrain that failed in between was never judged
-- grain:  one row
-- reads:  run
-- params:
WITH
retrain AS (
  SELECT rowid AS entered, status, started_at, error FROM run WHERE command = 'retrain'
),
passed AS (
  SELECT max(entered) AS entered FROM retrain WHERE status = 'done'
)
SELECT
  count(*) AS n_refused,
  date_trunc('second', arg_min(r.started_at, r.entered)) AS since,
  split_part(arg_max(r.error, r.entered), chr(10), 1) AS told,
FROM retrain AS r
CROSS JOIN passed AS p
WHERE r.status = 'refused' AND r.entered > coalesce(p.entered, -1)
ORDER BY n_refused
