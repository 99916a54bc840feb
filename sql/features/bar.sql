-- what:   the price rows of every ticker that goes on from a checkpoint: its new ones, and those its windows reach into
-- grain:  ticker, session
-- reads:  raw_price raw_calendar feature_state
-- params: basis checkpoint settled_at end begun_anew known_at stored_at
WITH
-- A correction replaces a bar for the nights that could know it: those of this block, or all if it came on time.
revised AS (
  SELECT p.ticker, p.session, max(p.version) AS version
  FROM raw_price AS p
  JOIN raw_calendar AS c ON c.session = p.session
  WHERE p.version > 1
    AND p.price_basis = $basis
    AND p.available_at <= least(greatest(c.cutoff_at, $settled_at), $known_at)
    AND is_held(p.ingested_at, p.retracted_at, $stored_at)
  GROUP BY p.ticker, p.session
),
reach AS (
  SELECT ticker, reach_from FROM feature_state WHERE session = $checkpoint
)
SELECT
  p.ticker,
  p.session,
  c.cutoff_at,
  r.ticker IS NULL OR p.session > $checkpoint AS is_new,
  p.open,
  p.high,
  p.low,
  p.close,
  CAST(p.volume AS DOUBLE) AS volume,
  p.change_pct,
  p.shares_outstanding,
FROM raw_price AS p
JOIN raw_calendar AS c ON c.session = p.session
LEFT JOIN reach AS r ON r.ticker = p.ticker
LEFT JOIN revised AS v ON v.ticker = p.ticker AND v.session = p.session
WHERE p.price_basis = $basis
  AND p.session <= $end
  AND p.session >= coalesce(r.reach_from, DATE '0001-01-01')
  AND p.version = coalesce(v.version, 1)
  AND p.available_at <= least(greatest(c.cutoff_at, $settled_at), $known_at)
  AND is_held(p.ingested_at, p.retracted_at, $stored_at)
  AND NOT list_contains(CAST($begun_anew AS VARCHAR[]), p.ticker)
ORDER BY p.ticker, p.session
