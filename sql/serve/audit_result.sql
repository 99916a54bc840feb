-- what:   what every audit found, newest session first
-- grain:  as_of, audit
-- reads:  audit_result
-- params:
SELECT as_of, audit, severity, n_offending, sample, run_id, audited_at
FROM audit_result
ORDER BY as_of DESC, audit
