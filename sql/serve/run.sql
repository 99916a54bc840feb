-- what:   the ledger of runs that have ended, in the order in which they began; the run that publishes is named in
--         publication
-- grain:  run_id
-- reads:  run
-- params:
SELECT run_id, command, as_of, status, pid, started_at, finished_at, summary, error, program, libraries
FROM run
WHERE status <> 'running'
ORDER BY rowid
