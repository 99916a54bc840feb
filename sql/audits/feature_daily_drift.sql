-- what:   features whose cross-section lies unlike that of the month before: PSI against every fourth of the 20 sessions
--         before, pooled
-- severity: warn
-- grain:  feature
-- reads:  feature_psi
-- params: as_of
SELECT feature, psi, highest
FROM feature_psi($as_of)
WHERE psi > highest
ORDER BY feature
