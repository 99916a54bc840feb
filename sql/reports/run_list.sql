-- what:   the newest runs, of one command or those that failed if asked, how they ended and what they said; in the order
--         in which they were entered: a clock set back must not put a night that failed behind one that did not
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
