-- what:   how long each stage of a run took
-- grain:  stage
-- reads:  run_stage
-- params: run_id
SELECT stage, n_rows, seconds
FROM run_stage
WHERE run_id = $run_id
ORDER BY seconds DESC, stage
