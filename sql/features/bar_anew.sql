-- what:   all price rows of tickers whose past reads otherwise from some night on, as that night and those after it know them
-- grain:  ticker, known_from, session
-- reads:  raw_price raw_calendar
-- params: basis tickers known_from until known_at stored_at
WITH
vintage AS (
  SELECT
    unnest(CAST($tickers AS VARCHAR[])) AS ticker,
    unnest(CAST($known_from AS DATE[])) AS known_from,
    unnest(CAST($until AS DATE[])) AS until,
),
settled AS (
  SELECT v.ticker, v.known_from, v.until, c.cutoff_at AS settled_at
  FROM vintage AS v
  JOIN raw_calendar AS c ON c.session = v.known_from
)
SELECT
  p.ticker,
  s.known_from,
  p.session,
  c.cutoff_at,
  true AS is_new,
  p.open,
  p.high,
  p.low,
  p.close,
  CAST(p.volume AS DOUBLE) AS volume,
  p.change_pct,
  p.shares_outstanding,
FROM settled AS s
JOIN raw_price AS p ON p.ticker = s.ticker AND p.session <= s.until
JOIN raw_calendar AS c ON c.session = p.session
WHERE p.price_basis = $basis
  AND p.available_at <= least(greatest(c.cutoff_at, s.settled_at), $known_at)
  AND is_held(p.ingested_at, p.retracted_at, $stored_at)
QUALIFY row_number() OVER (PARTITION BY p.ticker, s.known_from, p.session ORDER BY p.version DESC) = 1
ORDER BY p.ticker, s.known_from, p.session
