-- what:   the features of every bar, with the stock as it is listed now and the number of the session
-- grain:  ticker, as_of
-- reads:  feature_daily session listing
-- params:
SELECT
  f.ticker,
  f.as_of,
  s.session_number,
  l.name,
  l.market,
  l.sector,
  f.* EXCLUDE (ticker, as_of),  -- whatever the table holds: a feature added to it is in here without another change
FROM feature_daily AS f
JOIN session AS s ON s.session = f.as_of
LEFT JOIN listing AS l ON l.ticker = f.ticker
