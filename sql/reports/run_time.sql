-- what:   how long the newest runs of each command took that ended well
-- grain:  run_id
-- reads:  run
-- params: n
SELECT
  run_id,
  command,
  as_of,
  started_at,
  epoch(finished_at - started_at) AS seconds,
FROM run
WHERE status = 'done' AND finished_at IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY command ORDER BY started_at DESC, run_id DESC) <= $n
ORDER BY command, started_at, run_id
