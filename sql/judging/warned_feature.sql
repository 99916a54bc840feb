-- what:   how many features lay unlike the month before, on the newest sessions audited by a night
-- grain:  as_of
-- reads:  audit_result
-- params: as_of n
SELECT as_of, n_offending
FROM audit_result
WHERE audit = 'feature_daily_drift' AND as_of <= $as_of
ORDER BY as_of DESC
LIMIT $n
