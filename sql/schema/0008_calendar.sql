-- The calendar with its hours, what it was made from, and what the data showed of it.

ALTER TABLE raw_calendar ADD COLUMN closes_at TIMESTAMP;  -- UTC; NULL = 15:30 in Seoul

-- What raw_calendar was made from: another digest has it made anew, and what that changes is marked.
CREATE TABLE calendar_build (
  definition_digest VARCHAR NOT NULL, -- of the library's version, the closures and hours known here, file and cutoff
  n_added           BIGINT NOT NULL,
  n_removed         BIGINT NOT NULL,
  run_id            VARCHAR NOT NULL,
  built_at          TIMESTAMP NOT NULL,
);

-- Days of which the data showed otherwise than the calendar: closed although it listed them, or open although not.
CREATE TABLE observed_session (
  session     DATE NOT NULL,
  is_session  BOOLEAN NOT NULL,
  why         VARCHAR NOT NULL,
  run_id      VARCHAR NOT NULL,
  observed_at TIMESTAMP NOT NULL,
);
