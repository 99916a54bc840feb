-- what:   how unlike the month before each feature lies on a session
-- grain:  feature
-- reads:  feature_psi
-- params: as_of
SELECT feature, psi, highest
FROM feature_psi($as_of)
ORDER BY feature
