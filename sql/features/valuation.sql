-- what:   the exchange's own PER as printed and the night each became known, without what a newer one made old
-- grain:  ticker, available_at
-- reads:  raw_valuation
-- params: start_at end_at max_age_days known_at stored_at
WITH
printed AS (
  SELECT ticker, available_at, session, per
  FROM raw_valuation
  WHERE available_at BETWEEN $start_at - to_days($max_age_days) AND least($end_at, $known_at)
    AND is_held(ingested_at, retracted_at, $stored_at)
  QUALIFY row_number() OVER (PARTITION BY ticker, available_at ORDER BY session DESC, version DESC) = 1
)
SELECT ticker, available_at, session, per
FROM printed
QUALIFY session = max(session) OVER (
  PARTITION BY ticker ORDER BY available_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
)
ORDER BY ticker, available_at
