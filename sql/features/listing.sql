-- what:   what kind of name a ticker is
-- grain:  ticker
-- reads:  raw_listing
-- params:
SELECT
  ticker,
  market,
  sector,
  is_spac,
  is_preferred,
FROM raw_listing
ORDER BY ticker
