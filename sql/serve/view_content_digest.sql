-- what:   SHA-256 over what the bot acts on, recomputed from the rows (a view of the published file): anyone who asks it
--         learns whether the rows are still those that publication.digest was written for
-- grain:  one row
-- reads:  session_digest
-- params:
SELECT sha256(string_agg(CAST(as_of AS VARCHAR) || digest, chr(10) ORDER BY as_of)) AS digest
FROM session_digest
ORDER BY digest
