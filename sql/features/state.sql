-- what:   what each ticker's recursive averages stood at after a checkpoint
-- grain:  ticker
-- reads:  feature_state
-- params: checkpoint
SELECT
  ticker,
  n_bars,
  ema_12,
  ema_26,
  ema_50,
  ema_50_back_1,
  ema_50_back_2,
  ema_50_back_3,
  ema_200,
  macd_signal,
  gain,
  loss,
FROM feature_state
WHERE session = $checkpoint
ORDER BY ticker
