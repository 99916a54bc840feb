-- what:   the 20 bars behind each of the newest predictions, oldest first: the windows as the models read them, before
--         they are made scale-free; a row a bar takes no more room than a list a ticker, and reads as fast
-- grain:  ticker, as_of
-- reads:  feature_daily prediction raw_calendar
-- params:
WITH
newest AS (
  SELECT max(as_of) AS as_of FROM prediction
),
-- 20 bars span at most 40 sessions exactly if they lie within the last 40; said this way round, few rows are read.
recent AS (
  SELECT session FROM raw_calendar WHERE session <= (SELECT as_of FROM newest) ORDER BY session DESC LIMIT 40
),
-- One narrow column finds where each window begins; numbering the wide rows instead takes twice as long.
-- A window ends on a bar: on a session without a trade there is none.
window_ended AS (
  SELECT p.ticker, list_last(max(f.as_of, 20)) AS first_bar
  FROM prediction AS p
  JOIN feature_daily AS f
    ON p.ticker = f.ticker AND f.as_of BETWEEN (SELECT min(session) FROM recent) AND p.as_of
  WHERE p.as_of = (SELECT as_of FROM newest)
  GROUP BY p.ticker
  HAVING count(*) >= 20 AND max(f.as_of) = (SELECT as_of FROM newest)
)
SELECT
  f.ticker,
  f.as_of,
  f.rsi,
  f.bb_pctb,
  f.bb_bandwidth,
  f.macd_histogram,
  f.macd_signal_cross,
  f.atr_pct,
  f.ema_50,
  f.ema_200,
  f.golden_cross,
  f.dead_cross,
  f.volume_ratio,
  f.bb_squeeze,
  f.return_3m_pct,
  f.high_52w_ratio,
  f.high_20d_ratio,
  f.mtf_aligned,
  f.weekly_trend_up,
  f.rs_percentile,
  f.vix,
  f.spx_change_pct,
  f.usdkrw,
  f.regime_encoded,
  f.per,
  f.roe,
  f.debt_ratio,
  f.market_cap_log,
  f.foreign_net_buy_days,
  f.institution_net_buy_days,
  f.sector_encoded,
  f.policy_bonus,
  f.close,
FROM feature_daily AS f
JOIN window_ended AS w ON f.ticker = w.ticker AND f.as_of >= w.first_bar
WHERE f.as_of BETWEEN (SELECT min(session) FROM recent) AND (SELECT as_of FROM newest)
ORDER BY f.ticker, f.as_of
