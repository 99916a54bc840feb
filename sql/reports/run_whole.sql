-- what:   one run with everything that is known of it; a store that can be read has no writer: what is still called
--         running was killed
-- grain:  run_id
-- reads:  run
-- params: run_id
SELECT
  run_id,
  command,
  as_of,
  CASE status WHEN 'running' THEN 'failed' ELSE status END AS status,
  pid,
  started_at,
  finished_at,
  summary,
  CASE status WHEN 'running' THEN 'killed before it ended' ELSE error END AS error,
  round(epoch(r.finished_at - r.started_at), 3) AS seconds,
FROM run AS r
WHERE r.run_id = $run_id
ORDER BY r.run_id
