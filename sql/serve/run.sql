-- what:   the ledger of runs
-- grain:  run_id
-- reads:  run
-- params:
SELECT run_id, command, as_of, status, pid, started_at, finished_at, summary, error
FROM run
ORDER BY started_at, run_id
