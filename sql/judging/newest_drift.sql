-- what:   the newest verdict that a night could know, on whether what is served still is what was promised
-- grain:  as_of
-- reads:  drift
-- params: as_of
SELECT as_of, model_version, state, sentence, n_sessions, first_session, last_session, checks
FROM drift
WHERE as_of <= $as_of
ORDER BY as_of DESC
LIMIT 1
