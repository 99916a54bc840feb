-- what:   what a company's filings come to at each instant one of them became known, from the newest versions known then
-- grain:  ticker, known_at
-- reads:  raw_financial
-- params: start_at end_at max_age_days known_at stored_at
WITH
-- A yearly report is due 90 days after its period, a quarterly one 45: that tells where a fiscal year ends without
-- assuming December. A correction does not move the deadline.
filing AS (
  SELECT
    ticker,
    period_end,
    version,
    available_at,
    -- A figure's age is that of the report, not that of its last correction.
    min(available_at) OVER (PARTITION BY ticker, period_end) AS filed_at,
    net_income_ytd,
    equity,
    coalesce(100 * liabilities / nullif(equity, 0), debt_ratio) AS debt_ratio,
    date_diff('day', period_end, min(available_at) OVER (PARTITION BY ticker, period_end) + INTERVAL 9 HOUR) > 60
      AS is_year,
  FROM raw_financial
  WHERE available_at <= least($end_at, $known_at)
    AND is_held(ingested_at, retracted_at, $stored_at)
),
instant AS (            -- those between the nights asked for, and the last one before them
  SELECT ticker, available_at AS known_at FROM filing WHERE available_at > $start_at
  UNION
  SELECT ticker, max(available_at) AS known_at FROM filing WHERE available_at <= $start_at GROUP BY ticker
),
-- 1,200 days hold every filing that four quarters, none of them too old, can be made of.
known AS (
  SELECT
    i.ticker,
    i.known_at,
    f.period_end,
    f.filed_at,
    f.net_income_ytd,
    f.equity,
    f.debt_ratio,
    f.is_year,
  FROM instant AS i
  JOIN filing AS f
    ON f.ticker = i.ticker AND f.available_at <= i.known_at AND f.available_at > i.known_at - INTERVAL 1200 DAY
  QUALIFY row_number() OVER (PARTITION BY i.ticker, i.known_at, f.period_end ORDER BY f.version DESC) = 1
),
-- Some report half-years as years: whole years must lie between two of them. The first one known is trusted.
known_year AS (
  SELECT
    ticker,
    known_at,
    period_end,
    filed_at,
    net_income_ytd,
    coalesce(date_diff('month', lag(period_end) OVER by_ticker, period_end), 12) % 12 = 0 AS is_twelve_months,
  FROM known
  WHERE is_year
  WINDOW by_ticker AS (PARTITION BY ticker, known_at ORDER BY period_end)
),
net_income_4q AS (      -- this year so far + last year - last year as far
  SELECT
    f.ticker,
    f.known_at,
    f.period_end,
    greatest(f.filed_at, y.filed_at, q.filed_at) AS filed_at,
    f.net_income_ytd + y.net_income_ytd - q.net_income_ytd AS won,
  FROM known AS f
  -- The year just closed, also where it is a short one: an older year is not the one that this report goes on from.
  ASOF JOIN known_year AS y ON y.ticker = f.ticker AND y.known_at = f.known_at AND f.period_end > y.period_end
  JOIN known AS q
    ON q.ticker = f.ticker
    AND q.known_at = f.known_at
    AND last_day(q.period_end) = last_day(f.period_end - INTERVAL 12 MONTH)
  WHERE NOT f.is_year AND y.is_twelve_months AND y.period_end >= f.period_end - INTERVAL 10 MONTH
  QUALIFY row_number() OVER (PARTITION BY f.ticker, f.known_at, f.period_end ORDER BY q.period_end DESC) = 1
  UNION ALL
  SELECT ticker, known_at, period_end, filed_at, net_income_ytd AS won
  FROM known_year
  WHERE is_twelve_months
),
income AS (
  SELECT
    ticker,
    known_at,
    arg_max(won, period_end) AS net_income,
    arg_max(filed_at, period_end) AS net_income_at,
  FROM net_income_4q
  WHERE won IS NOT NULL AND filed_at > known_at - to_days($max_age_days)
  GROUP BY ticker, known_at
),
balance AS (
  SELECT
    ticker,
    known_at,
    arg_max(equity, period_end) FILTER (equity IS NOT NULL) AS equity,
    arg_max(filed_at, period_end) FILTER (equity IS NOT NULL) AS equity_at,
    arg_max(debt_ratio, period_end) FILTER (debt_ratio IS NOT NULL) AS debt_ratio,
    arg_max(filed_at, period_end) FILTER (debt_ratio IS NOT NULL) AS debt_ratio_at,
  FROM known
  GROUP BY ticker, known_at
)
SELECT
  b.ticker,
  b.known_at,
  i.net_income,
  i.net_income_at,
  b.equity,
  b.equity_at,
  b.debt_ratio,
  b.debt_ratio_at,
FROM balance AS b
LEFT JOIN income AS i ON i.ticker = b.ticker AND i.known_at = b.known_at
ORDER BY b.ticker, b.known_at
