-- what:   what the night of each session knows of the world: the last US session before it, the last FX fixing
-- grain:  as_of
-- reads:  raw_calendar raw_macro
-- params: start end max_age_days known_at stored_at
WITH
spine AS (
  SELECT session AS as_of, least(cutoff_at, $known_at) AS knows_until
  FROM raw_calendar
  WHERE session BETWEEN $start AND $end
),
-- The newest version of each close that was known, and the one before it; 40 days hold both, whatever the holidays.
known AS (
  SELECT
    s.as_of,
    s.knows_until,
    m.series,
    m.event_date,
    m.close,
    min(m.available_at) OVER (PARTITION BY s.as_of, m.series, m.event_date) AS available_at,  -- as first told
  FROM spine AS s
  JOIN raw_macro AS m
    ON m.available_at <= s.knows_until AND m.event_date > s.as_of - INTERVAL 40 DAY
  WHERE m.series IN ('VIX', 'SP500', 'USDKRW') AND is_held(m.ingested_at, m.retracted_at, $stored_at)
  QUALIFY row_number() OVER (PARTITION BY s.as_of, m.series, m.event_date ORDER BY m.version DESC) = 1
),
changed AS (
  SELECT
    as_of,
    knows_until,
    series,
    available_at,
    close,
    100 * (close / nullif(lag(close) OVER by_series, 0) - 1) AS change_pct,
    row_number() OVER (PARTITION BY as_of, series ORDER BY event_date DESC) AS n_back,
  FROM known
  WINDOW by_series AS (PARTITION BY as_of, series ORDER BY event_date)
),
newest AS (
  SELECT as_of, series, close, change_pct
  FROM changed
  WHERE n_back = 1 AND available_at >= knows_until - to_days($max_age_days)
),
side_by_side AS (
  SELECT
    s.as_of,
    max(n.close) FILTER (n.series = 'VIX') AS vix,
    max(n.change_pct) FILTER (n.series = 'SP500') AS spx_change_pct,
    max(n.close) FILTER (n.series = 'USDKRW') AS usdkrw,
    max(n.change_pct) FILTER (n.series = 'USDKRW') AS usdkrw_change_pct,
  FROM spine AS s
  LEFT JOIN newest AS n ON n.as_of = s.as_of
  GROUP BY s.as_of
),
stress AS (
  SELECT
    *,
    (spx_change_pct < -1)::INTEGER + (vix > 25)::INTEGER + (usdkrw_change_pct > 0.5)::INTEGER AS n_stressed,
  FROM side_by_side
)
SELECT
  as_of,
  vix,
  spx_change_pct,
  usdkrw,
  CASE
    WHEN n_stressed >= 2 THEN 0
    WHEN n_stressed = 0 AND vix < 18 AND spx_change_pct > 0 THEN 2
    WHEN n_stressed IS NOT NULL THEN 1
  END AS regime_encoded,
FROM stress
ORDER BY as_of
