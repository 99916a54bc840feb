-- what:   seconds and windows of the fits of the newest retrain that trained to its end
-- grain:  run_id
-- reads:  run run_stage
-- params:
SELECT
  r.run_id,
  sum(s.seconds) AS seconds,
  sum(s.n_rows) AS n_windows,
FROM run AS r
JOIN run_stage AS s ON s.run_id = r.run_id
WHERE r.command = 'retrain'
  AND s.stage IN ('train and judge folds', 'train on everything')
GROUP BY r.run_id, r.started_at
HAVING count(*) = 2
ORDER BY r.started_at DESC
LIMIT 1
