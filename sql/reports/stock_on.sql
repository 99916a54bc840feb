-- what:   a stock's name, its newest bar by a session, and whether that bar can be scored
-- grain:  one row
-- reads:  feature_daily listing
-- params: ticker as_of
WITH
bar AS (
  SELECT as_of AS newest_bar, bars_available, is_scoreable
  FROM feature_daily
  WHERE ticker = $ticker AND as_of <= $as_of
  ORDER BY as_of DESC
  LIMIT 1
),
stock AS (
  SELECT max(name) AS name FROM listing WHERE ticker = $ticker
)
SELECT stock.name, bar.newest_bar, bar.bars_available, bar.is_scoreable
FROM stock
LEFT JOIN bar ON true
ORDER BY bar.newest_bar
