-- what:   the stages of a run in their order, with the rows they handled
-- grain:  stage
-- reads:  run_stage
-- params: run_id
SELECT stage, n_rows, seconds
FROM run_stage
WHERE run_id = $run_id
ORDER BY run_stage.rowid
