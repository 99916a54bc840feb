-- what:   what was said of each name on the last sound session of the five before, by whichever model
-- grain:  ticker
-- reads:  prediction raw_calendar
-- params: as_of
WITH
reference AS (          -- ranks drift apart: over 20 sessions those of a sound sample market correlated by 0.08
  SELECT session FROM raw_calendar WHERE session < $as_of ORDER BY session DESC LIMIT 5
)
SELECT as_of, ticker, model_version, probability, lgbm, xgb, lstm
FROM prediction
WHERE as_of = (
  SELECT max(as_of)
  FROM prediction
  WHERE as_of < $as_of AND as_of >= (SELECT min(session) FROM reference) AND degraded_why IS NULL
)
ORDER BY ticker
