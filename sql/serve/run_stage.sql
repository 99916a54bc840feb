-- what:   how long each stage took of the runs that have ended
-- grain:  run_id, stage
-- reads:  run_stage run
-- params:
SELECT s.run_id, s.stage, s.n_rows, s.seconds
FROM run_stage AS s
JOIN run AS r ON s.run_id = r.run_id AND r.status <> 'running'
ORDER BY r.started_at, s.run_id, s.stage
