-- what:   how many features lay unlike the month before, on the newest sessions audited by a night, but for degraded ones
-- grain:  as_of
-- reads:  audit_result prediction
-- params: as_of n
SELECT as_of, n_offending
FROM audit_result
WHERE audit = 'feature_daily_drift'
  AND as_of <= $as_of
  -- A source that is known to be missing lies unlike the month before, and the gate has said so
  AND as_of NOT IN (SELECT as_of FROM prediction WHERE degraded_why IS NOT NULL)
ORDER BY as_of DESC
LIMIT $n
