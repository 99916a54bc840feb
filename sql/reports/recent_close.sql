-- what:   adjusted closes of some tickers over the calendar days before a session
-- grain:  ticker, as_of
-- reads:  feature_daily
-- params: as_of tickers n_days
SELECT ticker, as_of, close
FROM feature_daily
WHERE as_of BETWEEN $as_of - to_days($n_days) AND $as_of
  AND list_contains(CAST($tickers AS VARCHAR[]), ticker)
ORDER BY ticker, as_of
