-- what:   sessions on which a source states a corporate action
-- grain:  ticker, session
-- reads:  raw_corporate_action
-- params: start end
SELECT DISTINCT ticker, session
FROM raw_corporate_action
WHERE session BETWEEN $start AND $end AND retracted_at IS NULL
ORDER BY ticker, session
