-- what:   one stock's last predictions up to a session, and what came true of those that are known by now
-- grain:  as_of
-- reads:  judged_prediction
-- params: ticker as_of n
WITH
newest AS (
  SELECT as_of, probability, label, rank, label_5d, forward_return
  FROM judged_prediction
  WHERE ticker = $ticker AND as_of <= $as_of
  ORDER BY as_of DESC
  LIMIT $n
)
SELECT as_of, probability, label, rank, label_5d = 1 AS rose, forward_return
FROM newest
ORDER BY as_of
