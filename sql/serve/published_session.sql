-- what:   the digest of each of some sessions, kept beside its predictions: computed when the session is first published
--         and carried from one publication to the next, because all of a year's take two seconds
-- grain:  as_of
-- reads:  session_digest
-- params: start end
SELECT as_of, n_predictions, digest
FROM session_digest
WHERE as_of BETWEEN $start AND $end
ORDER BY as_of
