-- what:   net purchases in all their versions, each with the instant it became known
-- grain:  ticker, session, layer
-- reads:  raw_flow
-- params: start end known_at stored_at
SELECT
  ticker,
  session,
  row_number() OVER (PARTITION BY ticker, session ORDER BY version) - 1 AS layer,
  available_at,
  sign(foreign_net) AS foreign_sign,
  sign(institution_net) AS institution_sign,
FROM raw_flow
WHERE session BETWEEN $start AND $end
  AND available_at <= $known_at
  AND is_held(ingested_at, retracted_at, $stored_at)
ORDER BY ticker, session, layer
