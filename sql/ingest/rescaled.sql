-- what:   stored rows from before and after what a restating source sent, brought to its level as new versions
-- grain:  ticker, session
-- reads:  raw_price restated incoming
-- params: now retroactive
WITH
sent AS (
  SELECT i.ticker, min(i.session) AS first_session, max(i.session) AS last_session
  FROM incoming AS i
  WHERE i.price_basis = 'adjusted' AND i.ticker IN (SELECT ticker FROM restated)
  GROUP BY i.ticker
),
old AS (
  SELECT
    p.*,
    p.rowid AS row_id,
    min(p.available_at) OVER (PARTITION BY p.ticker, p.session) AS first_available_at,
    CASE WHEN p.session < s.first_session THEN r.ratio ELSE r.ratio_after END AS ratio,
    CASE WHEN p.session < s.first_session THEN r.volume_ratio ELSE r.volume_ratio_after END AS volume_ratio,
  FROM raw_price AS p
  JOIN restated AS r ON r.ticker = p.ticker
  JOIN sent AS s ON s.ticker = p.ticker AND p.session NOT BETWEEN s.first_session AND s.last_session
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
  CAST(round(volume * volume_ratio) AS BIGINT) AS volume,
  traded_value,
  change_pct,
  shares_outstanding,
  source,
  CASE WHEN $retroactive THEN first_available_at ELSE greatest(available_at, CAST($now AS TIMESTAMP)) END
    AS available_at,
  row_id AS old_row,
  version AS old_version,
  available_at AS old_available_at,
  true AS is_other,
  false AS is_new,
  false AS is_other_time,
  version + 1 AS version,
  CAST($retroactive AS BOOLEAN) AS retracts,
  true AS is_rescaled,
FROM old
WHERE ratio <> 1
ORDER BY session, ticker
