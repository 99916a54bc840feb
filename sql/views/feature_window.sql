-- what:   the 20 bars a model reads for a ticker and session, as one list, oldest first; name a ticker in the WHERE
-- grain:  ticker, as_of
-- reads:  feature_daily session
-- params:
WITH
window_ended AS (
  SELECT
    f.ticker,
    f.as_of,
    list(f) OVER last_20 AS bars,
    s.session_number - first(s.session_number) OVER last_20 + 1 AS n_sessions,
  FROM feature_daily AS f
  JOIN session AS s ON s.session = f.as_of
  WINDOW last_20 AS (PARTITION BY f.ticker ORDER BY f.as_of ROWS BETWEEN 19 PRECEDING AND CURRENT ROW)
)
SELECT
  ticker,
  as_of,
  n_sessions,
  bars,
FROM window_ended
WHERE len(bars) = 20 AND n_sessions <= 40
