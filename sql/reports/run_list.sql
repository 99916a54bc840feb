-- what:   the newest runs, of one command or those that failed if asked
-- grain:  run_id
-- reads:  run
-- params: n command failed
SELECT
  run_id,
  command,
  as_of,
  status,
  date_trunc('second', r.started_at) AS started_at,
  round(epoch(r.finished_at - r.started_at), 1) AS seconds,
  split_part(coalesce(error, summary), chr(10), 1) AS told,
FROM run AS r
WHERE command = coalesce(CAST($command AS VARCHAR), command) AND (status = 'failed' OR NOT $failed)
ORDER BY r.rowid DESC
LIMIT $n
