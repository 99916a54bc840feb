-- what:   what the night of each session knows of the world: the last US session before it, the last FX fixing
-- grain:  as_of
-- reads:  raw_calendar raw_macro
-- params: start end max_age_days
WITH
spine AS (
  SELECT session AS as_of, cutoff_at FROM raw_calendar WHERE session BETWEEN $start AND $end
),
macro_close AS (        -- a series' close beside the one before it
  SELECT
    series,
    available_at,
    close,
    100 * (close / nullif(lag(close) OVER by_series, 0) - 1) AS change_pct,
  FROM raw_macro
  WINDOW by_series AS (PARTITION BY series ORDER BY event_date)
),
vix AS (SELECT available_at, close FROM macro_close WHERE series = 'VIX'),
spx AS (SELECT available_at, change_pct FROM macro_close WHERE series = 'SP500'),
usdkrw AS (SELECT available_at, close, change_pct FROM macro_close WHERE series = 'USDKRW'),
known AS (
  SELECT
    s.as_of,
    CASE WHEN v.available_at >= s.cutoff_at - to_days($max_age_days) THEN v.close END AS vix,
    CASE WHEN x.available_at >= s.cutoff_at - to_days($max_age_days) THEN x.change_pct END AS spx_change_pct,
    CASE WHEN u.available_at >= s.cutoff_at - to_days($max_age_days) THEN u.close END AS usdkrw,
    CASE WHEN u.available_at >= s.cutoff_at - to_days($max_age_days) THEN u.change_pct END AS usdkrw_change_pct,
  FROM spine AS s
  ASOF LEFT JOIN vix AS v ON s.cutoff_at >= v.available_at
  ASOF LEFT JOIN spx AS x ON s.cutoff_at >= x.available_at
  ASOF LEFT JOIN usdkrw AS u ON s.cutoff_at >= u.available_at
),
stress AS (
  SELECT
    *,
    (spx_change_pct < -1)::INTEGER + (vix > 25)::INTEGER + (usdkrw_change_pct > 0.5)::INTEGER AS n_stressed,
  FROM known
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
