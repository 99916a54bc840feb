-- what:   what each night knew of the predictions served before it; newest first
-- grain:  as_of
-- reads:  drift
-- params:
SELECT
  as_of,
  model_version,
  state,
  sentence,
  n_sessions,
  first_session,
  last_session,
  checks,
FROM drift
ORDER BY as_of DESC
