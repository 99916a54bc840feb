-- what:   what went wrong lately: audits with findings, rows set aside, sessions published although something was missing,
--         runs that failed
-- grain:  kind, what, on_date
-- reads:  audit_result quarantine prediction run
-- params: n
WITH
incident AS (
  SELECT 'audit' AS kind, audit AS what, max(as_of) AS on_date, sum(n_offending) AS n, max_by(severity, as_of) AS detail
  FROM audit_result
  WHERE n_offending > 0
  GROUP BY audit
  UNION ALL
  SELECT 'quarantine', table_name || ': ' || rule, CAST(max(ingested_at) AS DATE), count(*), any_value(source)
  FROM quarantine
  GROUP BY table_name, rule
  UNION ALL
  SELECT 'degraded', any_value(degraded_why), as_of, count(*), NULL
  FROM prediction
  WHERE degraded_why IS NOT NULL
  GROUP BY as_of
  UNION ALL
  SELECT 'failed run', command, CAST(started_at AS DATE), 1, error
  FROM run
  WHERE status = 'failed'
)
SELECT kind, what, on_date, n, detail
FROM incident
ORDER BY on_date DESC, kind, what
LIMIT $n
