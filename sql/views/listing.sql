-- what:   every stock as it is listed by the newest version that stands, delisted ones included
-- grain:  ticker
-- reads:  raw_listing
-- params:
SELECT
  ticker,
  name,
  market,
  sector,
  industry,
  is_spac,
  is_preferred,
  first_seen,
  last_seen,
FROM raw_listing
WHERE retracted_at IS NULL
QUALIFY row_number() OVER (PARTITION BY ticker ORDER BY version DESC) = 1
