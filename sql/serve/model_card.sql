-- what:   facts of the model that made the newest predictions; value is JSON text, readable without the json extension
-- grain:  key
-- reads:
-- params: keys values
SELECT unnest(CAST($keys AS VARCHAR[])) AS key, unnest(CAST($values AS VARCHAR[])) AS value
ORDER BY key
