-- what:   the newest runs, of one command or those that failed if asked, how they ended and what they said; in the order
--         in which they were entered: a clock set back must not put a night that failed behind one that did not. A store
--         that can be read has no writer: what is still called running was killed
-- grain:  run_id
-- reads:  run
-- params: n command failed
SELECT
  run_id,
  command,
  as_of,
  CASE status WHEN 'running' THEN 'failed' ELSE status END AS status,
  date_trunc('second', r.started_at) AS started_at,
  round(epoch(r.finished_at - r.started_at), 1) AS seconds,
  CASE status
    WHEN 'running' THEN 'killed before it ended'
    ELSE split_part(coalesce(error, summary), chr(10), 1)
  END AS told,
FROM run AS r
WHERE command = coalesce(CAST($command AS VARCHAR), command) AND (status IN ('failed', 'running') OR NOT $failed)
ORDER BY r.rowid DESC
LIMIT $n
