-- what:   one run with everything that is known of it
-- grain:  run_id
-- reads:  run
-- params: run_id
SELECT
  run_id,
  command,
  as_of,
  status,
  pid,
  started_at,
  finished_at,
  summary,
  error,
  round(epoch(r.finished_at - r.started_at), 3) AS seconds,
FROM run AS r
WHERE r.run_id = $run_id
ORDER BY r.run_id
