-- what:   tickers whose adjusted prices came back at another level: new / old at both ends of the rows that the source
--         sent and that were stored before
-- grain:  ticker
-- reads:  delta raw_price incoming
-- params: n_ends fraction_that_agrees
WITH
suspect AS (
  SELECT ticker
  FROM delta
  WHERE price_basis = 'adjusted' AND is_other AND NOT is_new
  GROUP BY ticker
  HAVING count(*) >= 2
),
stored AS (
  SELECT p.ticker, p.session, p.close, p.volume
  FROM raw_price AS p
  JOIN suspect AS s ON s.ticker = p.ticker
  WHERE p.price_basis = 'adjusted' AND p.retracted_at IS NULL
  QUALIFY row_number() OVER (PARTITION BY p.ticker, p.session ORDER BY p.version DESC) = 1
),
overlap AS (
  SELECT
    i.ticker,
    o.close AS old_close,
    i.close AS new_close,
    o.volume AS old_volume,
    i.volume AS new_volume,
    count(*) OVER (PARTITION BY i.ticker) AS n_overlap,
    row_number() OVER (PARTITION BY i.ticker ORDER BY i.session) AS n_from_first,
    row_number() OVER (PARTITION BY i.ticker ORDER BY i.session DESC) AS n_from_last,
  FROM incoming AS i
  JOIN stored AS o ON o.ticker = i.ticker AND o.session = i.session
  WHERE i.price_basis = 'adjusted'
),
-- A source may have restated more than one split: the first rows tell of what came before them, the last of what after.
edge AS (
  SELECT ticker, 'first' AS side, old_close, new_close, old_volume, new_volume, n_overlap
  FROM overlap
  WHERE n_from_first <= $n_ends
  UNION ALL
  SELECT ticker, 'last' AS side, old_close, new_close, old_volume, new_volume, n_overlap
  FROM overlap
  WHERE n_from_last <= $n_ends
),
ratio_of_edge AS (
  SELECT
    *,
    median(new_close / old_close) OVER by_edge AS ratio,
    sum(new_volume) OVER by_edge / nullif(sum(old_volume) OVER by_edge, 0) AS volume_ratio,
  FROM edge
  WINDOW by_edge AS (PARTITION BY ticker, side)
),
judged AS (             -- corrections move single rows; a level moves nearly all of them by one ratio, but for rounding to won
  SELECT
    ticker,
    side,
    any_value(n_overlap) AS n_overlap,
    any_value(volume_ratio) AS volume_ratio,
    any_value(ratio) AS ratio,
    avg((abs(new_close - old_close * ratio) <= 0.1 * abs(ratio - 1) * old_close + 1)::INTEGER) AS share_that_agrees,
  FROM ratio_of_edge
  GROUP BY ticker, side
),
level AS (
  SELECT
    ticker,
    side,
    n_overlap,
    volume_ratio,
    -- The smaller the step, the more rows it takes to tell it from a few corrected prices.
    CASE
      WHEN share_that_agrees >= $fraction_that_agrees
        AND n_overlap >= CASE
          WHEN abs(ratio - 1) > 0.31 THEN 2
          WHEN abs(ratio - 1) > 0.05 THEN 3
          WHEN abs(ratio - 1) > 0.003 THEN 10
        END
        THEN ratio
      ELSE 1
    END AS ratio,
  FROM judged
)
SELECT
  f.ticker,
  f.n_overlap,
  f.ratio,
  l.ratio AS ratio_after,
  -- Most sources scale volumes the other way, some leave them.
  coalesce(CASE WHEN f.ratio <> 1 THEN f.volume_ratio END, 1) AS volume_ratio,
  coalesce(CASE WHEN l.ratio <> 1 THEN l.volume_ratio END, 1) AS volume_ratio_after,
FROM level AS f
JOIN level AS l ON l.ticker = f.ticker AND l.side = 'last'
WHERE f.side = 'first' AND (f.ratio <> 1 OR l.ratio <> 1)
ORDER BY f.ticker
