-- what:   market capitalisations as printed and the night each became known, without what a newer one made old
-- grain:  ticker, available_at
-- reads:  raw_market_cap
-- params: start_at end_at max_age_days known_at stored_at
WITH
printed AS (            -- of two sources of one session the first by name counts
  SELECT ticker, available_at, session, source, market_cap
  FROM raw_market_cap
  WHERE available_at BETWEEN $start_at - to_days($max_age_days) AND least($end_at, $known_at)
    AND is_held(ingested_at, retracted_at, $stored_at)
  QUALIFY row_number() OVER (PARTITION BY ticker, available_at ORDER BY session DESC, source, version DESC) = 1
)
SELECT ticker, available_at, session, market_cap
FROM printed
QUALIFY session = max(session) OVER (
  PARTITION BY ticker ORDER BY available_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
)
  AND source = min(source) OVER (    -- a correction of the second source does not displace the first
    PARTITION BY ticker, session ORDER BY available_at ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  )
ORDER BY ticker, available_at
