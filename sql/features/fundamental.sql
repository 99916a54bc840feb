-- what:   valuation and balance sheet of each bar, from what had been filed and printed by that night
-- grain:  ticker, as_of
-- reads:  raw_price raw_calendar raw_market_cap raw_valuation raw_financial
-- params: start end filing_max_age_days cap_max_age_days per_max_age_days
WITH
price AS (
  SELECT ticker, session, close, volume FROM raw_price WHERE price_basis = 'adjusted'
),
spine AS (
  SELECT p.ticker, p.session AS as_of, c.cutoff_at, p.close
  FROM price AS p
  JOIN raw_calendar AS c ON c.session = p.session
  WHERE p.volume > 0 AND p.session BETWEEN $start AND $end
),
-- Between two printed figures won amounts move with the price. Only ratios of adjusted prices are used, so a later
-- split changes nothing.
cap AS (
  SELECT m.ticker, m.available_at, m.market_cap / p.close AS market_cap_per_close
  FROM raw_market_cap AS m
  JOIN price AS p ON p.ticker = m.ticker AND p.session = m.session
  QUALIFY row_number() OVER (PARTITION BY m.ticker, m.session ORDER BY m.source) = 1
),
printed AS (
  SELECT v.ticker, v.available_at, v.per / p.close AS per_per_close
  FROM raw_valuation AS v
  JOIN price AS p ON p.ticker = v.ticker AND p.session = v.session
),
-- A yearly report is due 90 days after its period, a quarterly one 45: that tells where a fiscal year ends without
-- assuming December.
filing AS (
  SELECT
    ticker,
    period_end,
    available_at,
    net_income_ytd,
    equity,
    coalesce(100 * liabilities / nullif(equity, 0), debt_ratio) AS debt_ratio,
    date_diff('day', period_end, available_at + INTERVAL 9 HOUR) > 60 AS is_year,
  FROM raw_financial
),
-- Some report half-years as years: whole years must lie between two of them. The first one known is trusted.
filing_of_year AS (
  SELECT
    ticker,
    period_end,
    available_at,
    net_income_ytd,
    coalesce(date_diff('month', lag(period_end) OVER by_ticker, period_end), 12) % 12 = 0 AS is_twelve_months,
  FROM filing
  WHERE is_year
  WINDOW by_ticker AS (PARTITION BY ticker ORDER BY period_end)
),
net_income_4q AS (      -- this year so far + last year - last year as far
  SELECT
    f.ticker,
    f.period_end,
    greatest(f.available_at, y.available_at, q.available_at) AS available_at,
    f.net_income_ytd + y.net_income_ytd - q.net_income_ytd AS won,
  FROM filing AS f
  JOIN filing_of_year AS y
    ON y.ticker = f.ticker
    AND y.period_end < f.period_end AND y.period_end >= f.period_end - INTERVAL 10 MONTH
    AND y.is_twelve_months
  JOIN filing AS q
    ON q.ticker = f.ticker AND last_day(q.period_end) = last_day(f.period_end - INTERVAL 12 MONTH)
  WHERE NOT f.is_year
  UNION ALL
  SELECT ticker, period_end, available_at, net_income_ytd AS won
  FROM filing_of_year
  WHERE is_twelve_months
),
income AS (
  SELECT ticker, available_at, won
  FROM net_income_4q
  WHERE won IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY ticker, available_at ORDER BY period_end DESC) = 1
),
equity AS (
  SELECT ticker, available_at, equity AS won
  FROM filing
  WHERE equity IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY ticker, available_at ORDER BY period_end DESC) = 1
),
debt AS (
  SELECT ticker, available_at, debt_ratio
  FROM filing
  WHERE debt_ratio IS NOT NULL
  QUALIFY row_number() OVER (PARTITION BY ticker, available_at ORDER BY period_end DESC) = 1
),
known AS (
  SELECT
    s.ticker,
    s.as_of,
    CASE WHEN m.available_at >= s.cutoff_at - to_days($cap_max_age_days) THEN m.market_cap_per_close * s.close END
      AS market_cap,
    CASE WHEN v.available_at >= s.cutoff_at - to_days($per_max_age_days) THEN v.per_per_close * s.close END
      AS per_printed,
    CASE WHEN i.available_at >= s.cutoff_at - to_days($filing_max_age_days) THEN i.won END AS net_income,
    CASE WHEN e.available_at >= s.cutoff_at - to_days($filing_max_age_days) THEN e.won END AS equity,
    CASE WHEN d.available_at >= s.cutoff_at - to_days($filing_max_age_days) THEN d.debt_ratio END AS debt_ratio,
  FROM spine AS s
  ASOF LEFT JOIN cap AS m ON s.ticker = m.ticker AND s.cutoff_at >= m.available_at
  ASOF LEFT JOIN printed AS v ON s.ticker = v.ticker AND s.cutoff_at >= v.available_at
  ASOF LEFT JOIN income AS i ON s.ticker = i.ticker AND s.cutoff_at >= i.available_at
  ASOF LEFT JOIN equity AS e ON s.ticker = e.ticker AND s.cutoff_at >= e.available_at
  ASOF LEFT JOIN debt AS d ON s.ticker = d.ticker AND s.cutoff_at >= d.available_at
),
ratio AS (
  SELECT
    *,
    CASE WHEN net_income > 0 THEN market_cap / net_income END AS per_computed,
  FROM known
)
SELECT
  ticker,
  as_of,
  CASE WHEN per_printed > 0 THEN per_printed ELSE per_computed END AS per,
  100 * net_income / nullif(equity, 0) AS roe,
  debt_ratio,
  log10(market_cap) AS market_cap_log,
FROM ratio
ORDER BY ticker, as_of
