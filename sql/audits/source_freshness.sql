-- what:   sources whose newest fact known by the session's cutoff is older than it may be
-- severity: by row
-- grain:  source
-- reads:  raw_calendar raw_price raw_flow raw_valuation raw_market_cap raw_financial raw_macro
-- params: as_of
WITH
-- Sources that features read. A source counts from the first fact on that the store knew by the cutoff. Oldest that each
-- one's newest fact became, mid-2020 to 2024: prices 0 days, VIX and SP500 4, USDKRW 5, valuation 33 (monthly; its PER
-- counts for 45), market cap 90, filings 182 (the year's report of half the names, due at the end of March). Flows have
-- no history to measure: they are final on the evening of the session, and one missing day makes the features NULL.
-- Stale prices are no session at all; of everything else the features grow old and then NULL, which is worth a person.
freshness_limit (source, max_age_days, severity) AS (
  VALUES
    ('raw_price', 0, 'fail'),
    ('raw_flow', 0, 'warn'),
    ('raw_valuation', 40, 'warn'),
    ('raw_market_cap', 100, 'warn'),
    ('raw_financial', 200, 'warn'),
    ('VIX', 5, 'warn'),
    ('SP500', 5, 'warn'),
    ('USDKRW', 6, 'warn')
),
night AS (
  SELECT cutoff_at FROM raw_calendar WHERE session = $as_of
),
newest_filing AS (
  SELECT ticker, max(period_end) AS period_end
  FROM raw_financial
  WHERE available_at <= (SELECT cutoff_at FROM night) AND retracted_at IS NULL
  GROUP BY ticker
),
source_newest AS (
  -- A price is known on its own session; asking each of millions when would cost as much as all the rest.
  SELECT 'raw_price' AS source, max(session) AS newest
  FROM raw_price
  WHERE session <= $as_of AND retracted_at IS NULL
  UNION ALL
  SELECT 'raw_flow' AS source, max(session) AS newest
  FROM raw_flow
  WHERE available_at <= (SELECT cutoff_at FROM night) AND retracted_at IS NULL
  UNION ALL
  SELECT 'raw_valuation' AS source, max(session) AS newest
  FROM raw_valuation
  WHERE available_at <= (SELECT cutoff_at FROM night) AND retracted_at IS NULL
  UNION ALL
  SELECT 'raw_market_cap' AS source, max(session) AS newest
  FROM raw_market_cap
  WHERE available_at <= (SELECT cutoff_at FROM night) AND retracted_at IS NULL
  UNION ALL             -- half the names: a few with odd fiscal years file all year round
  SELECT 'raw_financial' AS source, quantile_disc(period_end, 0.5) AS newest
  FROM newest_filing
  UNION ALL
  SELECT series AS source, max(event_date) AS newest
  FROM raw_macro
  WHERE available_at <= (SELECT cutoff_at FROM night) AND retracted_at IS NULL
  GROUP BY series
)
SELECT
  n.source,
  n.newest,
  date_diff('day', n.newest, $as_of) AS age_days,
  l.max_age_days,
  l.severity,
FROM source_newest AS n
JOIN freshness_limit AS l ON l.source = n.source
WHERE date_diff('day', n.newest, $as_of) > l.max_age_days
ORDER BY l.severity, n.source
