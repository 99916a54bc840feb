-- what:   one number over every value of a session's predictions: a target that knows it holds the session
-- grain:  as_of
-- reads:  prediction
-- params:
SELECT as_of, CAST(sum(hash(prediction)) AS VARCHAR) AS digest
FROM prediction
GROUP BY as_of
ORDER BY as_of
