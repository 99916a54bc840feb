-- what:   prices of the last three sessions that a second source tells otherwise than they are stored
-- severity: by row
-- grain:  event_date, ticker, column_name, other_source
-- reads:  source_disagreement raw_price raw_calendar
-- params: as_of
WITH
recent AS (             -- the exchange's own interface confirms a session on the morning after, or after a holiday
  SELECT session FROM raw_calendar WHERE session <= $as_of ORDER BY session DESC LIMIT 3
),
standing AS (
  SELECT *
  FROM raw_price
  WHERE session IN (SELECT session FROM recent) AND price_basis = 'raw' AND retracted_at IS NULL
  QUALIFY row_number() OVER (PARTITION BY ticker, session ORDER BY version DESC) = 1
),
session_size AS (
  SELECT session, count(*) AS n_names FROM standing GROUP BY session
),
disagreement AS (       -- what was mended since is none any more
  SELECT d.*
  FROM source_disagreement AS d
  JOIN standing AS s ON s.ticker = d.ticker AND s.session = d.event_date
  WHERE d.table_name = 'raw_price'
    AND d.value = CASE d.column_name
      WHEN 'open' THEN s.open
      WHEN 'high' THEN s.high
      WHEN 'low' THEN s.low
      WHEN 'close' THEN s.close
      WHEN 'volume' THEN s.volume
      WHEN 'traded_value' THEN s.traded_value
      WHEN 'change_pct' THEN s.change_pct
      WHEN 'shares_outstanding' THEN s.shares_outstanding
    END
),
agreement AS (
  SELECT event_date, count(DISTINCT ticker) AS n_off FROM disagreement GROUP BY event_date
)
SELECT
  d.event_date,
  d.ticker,
  d.column_name,
  d.source,
  d.value,
  d.other_source,
  d.other_value,
  -- A name or two are corrections; 1 % of the market (at least three) are another day's prices or another unit.
  CASE WHEN a.n_off >= 3 AND a.n_off > 0.01 * n.n_names THEN 'fail' ELSE 'warn' END AS severity,
FROM disagreement AS d
JOIN agreement AS a ON a.event_date = d.event_date
JOIN session_size AS n ON n.session = d.event_date
ORDER BY severity, d.event_date, d.ticker, d.column_name, d.other_source
