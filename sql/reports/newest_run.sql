-- what:   the run of each command that was entered last, whatever the clock said, and how it ended
-- grain:  command
-- reads:  run
-- params:
SELECT
  command,
  status,
  date_trunc('second', started_at) AS started_at,
  split_part(coalesce(error, summary), chr(10), 1) AS told,
FROM run
QUALIFY row_number() OVER (PARTITION BY command ORDER BY rowid DESC) = 1
ORDER BY command
