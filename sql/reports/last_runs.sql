-- what:   the newest runs, how they ended and what they said; in the order in which they were entered: a clock set back
--         must not put a night that failed behind one that did not
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
ORDER BY r.rowid DESC
LIMIT $n
