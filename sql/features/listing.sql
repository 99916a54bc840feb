-- what:   what kind of name a ticker is, and from when on that was known
-- grain:  ticker, available_at
-- reads:  raw_listing
-- params: known_at stored_at
SELECT
  ticker,
  available_at,
  market,
  sector,
  is_spac,
  is_preferred,
FROM raw_listing
WHERE available_at <= $known_at AND is_held(ingested_at, retracted_at, $stored_at)
QUALIFY row_number() OVER (PARTITION BY ticker, available_at ORDER BY version DESC) = 1
ORDER BY ticker, available_at
