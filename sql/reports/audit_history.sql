-- what:   what the named audits found on the newest sessions they were kept for
-- grain:  as_of, audit
-- reads:  audit_result
-- params: audits n
SELECT
  as_of,
  audit,
  CASE WHEN n_offending = 0 THEN 'pass' ELSE severity END AS verdict,
  n_offending,
  sample,
  run_id,
FROM audit_result
WHERE list_contains($audits, audit)
ORDER BY as_of DESC, audit
LIMIT $n
