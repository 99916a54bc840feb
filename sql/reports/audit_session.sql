-- what:   the newest audited sessions with the audits that failed and warned on each
-- grain:  as_of
-- reads:  audit_result
-- params: n
SELECT
  as_of,
  count(*) AS n_audits,
  count(*) FILTER (n_offending > 0 AND severity = 'fail') AS n_failed,
  count(*) FILTER (n_offending > 0 AND severity = 'warn') AS n_warned,
  string_agg(audit || ' ' || n_offending, ', ' ORDER BY severity, audit) FILTER (n_offending > 0) AS found,
FROM audit_result
GROUP BY as_of
ORDER BY as_of DESC
LIMIT $n
