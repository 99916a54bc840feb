-- what:   the newest runs, how they ended and what they said
-- grain:  run_id
-- reads:  run
-- params: n
SELECT
  run_id,
  command,
  as_of,
  status,
  date_trunc('second', r.started_at) AS started_at,
  round(epoch(r.finished_at - r.started_at), 1) AS seconds,
  split_part(coalesce(error, summary), chr(10), 1) AS told,
FROM run AS r
ORDER BY r.started_at DESC, r.run_id DESC
LIMIT $n
