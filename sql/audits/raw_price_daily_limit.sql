-- what:   moves beyond the exchange's ±30 % limit: re-listings after long halts and capital reductions do it, and so do
--         sources that missed a split
-- severity: warn
-- grain:  ticker
-- reads:  raw_price
-- params: as_of
WITH
recent AS (
  SELECT ticker, session, close, lag(close) OVER (PARTITION BY ticker ORDER BY session) AS close_before
  FROM raw_price
  WHERE price_basis = 'adjusted' AND session BETWEEN $as_of - INTERVAL 20 DAY AND $as_of
)
SELECT ticker, close_before, close, round(100 * (close / close_before - 1), 2) AS change_pct
FROM recent
WHERE session = $as_of AND abs(close / close_before - 1) > 0.305
ORDER BY ticker
