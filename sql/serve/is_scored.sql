-- what:   whether a session stands scored by this model from the features as they are now
-- grain:  one row
-- reads:  scored_session
-- params: as_of model_version fingerprint
SELECT count(*) > 0 AS is_scored
FROM scored_session
WHERE as_of = $as_of AND model_version = $model_version AND fingerprint = $fingerprint
ORDER BY is_scored
