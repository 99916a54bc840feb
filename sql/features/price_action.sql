-- what:   what raw prices were found to be multiplied by up to a checkpoint
-- grain:  ticker, session
-- reads:  price_action
-- params: checkpoint
SELECT ticker, session, factor, cumulative, evidence
FROM price_action
WHERE session <= $checkpoint
ORDER BY ticker, session
