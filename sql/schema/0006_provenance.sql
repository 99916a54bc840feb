-- What computed a run, so that a night which no longer comes out to the bit can name it: NULL = of before this was kept.
ALTER TABLE run ADD COLUMN program VARCHAR;
ALTER TABLE run ADD COLUMN libraries VARCHAR;                    -- JSON: library → version

-- Of the features a session was scored from; feature_session's changes with the next build.
ALTER TABLE scored_session ADD COLUMN definition_digest VARCHAR;
