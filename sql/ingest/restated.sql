-- what:   tickers whose adjusted prices came back at another level: their earliest rows that were stored before are all
--         off by one ratio
-- grain:  ticker
-- reads:  delta raw_price incoming
-- params: min_overlap min_ratio_change tolerance
WITH
suspect AS (
  SELECT ticker
  FROM delta
  WHERE price_basis = 'adjusted' AND is_other AND NOT is_new
  GROUP BY ticker
  HAVING count(*) >= $min_overlap
),
stored AS (
  SELECT p.ticker, p.session, p.close
  FROM raw_price AS p
  JOIN suspect AS s ON s.ticker = p.ticker
  WHERE p.price_basis = 'adjusted' AND p.retracted_at IS NULL
  QUALIFY row_number() OVER (PARTITION BY p.ticker, p.session ORDER BY p.version DESC) = 1
),
overlap AS (
  SELECT
    i.ticker,
    i.session,
    o.close AS old_close,
    i.close AS new_close,
    row_number() OVER (PARTITION BY i.ticker ORDER BY i.session) AS n_back,
  FROM incoming AS i
  JOIN stored AS o ON o.ticker = i.ticker AND o.session = i.session
  WHERE i.price_basis = 'adjusted'
),
-- A source may have restated more than one split: only the earliest rows tell what came before them.
earliest AS (
  SELECT ticker, old_close, new_close, sum(new_close) OVER by_ticker / sum(old_close) OVER by_ticker AS ratio
  FROM overlap
  WHERE n_back <= 20
  WINDOW by_ticker AS (PARTITION BY ticker)
)
SELECT
  e.ticker,
  any_value(e.ratio) AS ratio,
  any_value(n.n_overlap) AS n_overlap,
FROM earliest AS e
JOIN (SELECT ticker, count(*) AS n_overlap FROM overlap GROUP BY ticker) AS n ON n.ticker = e.ticker
GROUP BY e.ticker
HAVING count(*) >= $min_overlap
  AND abs(any_value(e.ratio) - 1) > $min_ratio_change
  -- Restated prices are rounded to won, which is much for a stock of few won.
  AND bool_and(abs(e.new_close - e.old_close * e.ratio) <= $tolerance * e.new_close + 1)
ORDER BY e.ticker
