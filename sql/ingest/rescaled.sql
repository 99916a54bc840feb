-- what:   stored rows older than what a restating source sent, brought to its level as new versions
-- grain:  ticker, session
-- reads:  raw_price restated incoming
-- params: now retroactive
WITH
first_sent AS (
  SELECT i.ticker, min(i.session) AS session
  FROM incoming AS i
  WHERE i.price_basis = 'adjusted' AND i.ticker IN (SELECT ticker FROM restated)
  GROUP BY i.ticker
),
old AS (
  SELECT p.*, r.ratio
  FROM raw_price AS p
  JOIN restated AS r ON r.ticker = p.ticker
  JOIN first_sent AS f ON f.ticker = p.ticker AND p.session < f.session
  WHERE p.price_basis = 'adjusted' AND p.retracted_at IS NULL
  QUALIFY row_number() OVER (PARTITION BY p.ticker, p.session ORDER BY p.version DESC) = 1
)
SELECT
  ticker,
  session,
  price_basis,
  open * ratio AS open,
  high * ratio AS high,
  low * ratio AS low,
  close * ratio AS close,
  CAST(round(volume / ratio) AS BIGINT) AS volume,
  traded_value,
  change_pct,
  shares_outstanding,
  source,
  CASE WHEN $retroactive THEN available_at ELSE greatest(available_at, CAST($now AS TIMESTAMP)) END AS available_at,
  version AS old_version,
  available_at AS old_available_at,
  true AS is_other,
  false AS is_new,
  false AS is_other_time,
  version + 1 AS version,
  CAST($retroactive AS BOOLEAN) AS retracts,
  true AS is_rescaled,
FROM old
ORDER BY session, ticker
