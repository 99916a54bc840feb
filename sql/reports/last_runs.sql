-- what:   the newest runs, how they ended and what they said
-- grain:  run_id
-- reads:  run
-- params: n
SELECT
  run_id,
  command,
  as_of,
  status,
  date_trunc('second', started_at) AS started_at,
  round(epoch(finished_at - started_at), 1) AS seconds,
  split_part(coalesce(error, summary), chr(10), 1) AS told,
FROM run
ORDER BY started_at DESC, run_id DESC
LIMIT $n
