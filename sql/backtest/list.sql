-- what:   the backtests that are stored, the newest first, with the main figures of what each would have published
-- grain:  backtest_id
-- reads:  backtest backtest_metric
-- params:
WITH
figure AS (
  SELECT
    backtest_id,
    max(value) FILTER (variant = 'blend' AND metric = 'auc_day') AS auc_day,
    max(value) FILTER (variant = 'blend' AND metric = 'auc_day_vol') AS auc_day_vol,
    max(value) FILTER (variant = 'blend' AND metric = 'brier_skill_pct') AS brier_skill_pct,
    max(value) FILTER (variant = 'blend' AND metric = 'brier_skill_vol_pct') AS brier_skill_vol_pct,
    max(value) FILTER (variant = 'blend' AND metric = 'ic') AS ic,
    max(value) FILTER (variant = 'top decile' AND metric = 'excess_pct_a_year') AS top_decile_excess_pct_a_year,
  FROM backtest_metric
  WHERE scope = 'all'
  GROUP BY backtest_id
)
SELECT
  b.backtest_id,
  b.first_session,
  b.last_session,
  b.refit,
  b.n_refits,
  b.n_predictions,
  (b.settings::JSON ->> '$.train_sessions')::INTEGER AS train_sessions,
  b.settings::JSON ->> '$.folds' AS folds,
  f.auc_day,
  f.auc_day_vol,
  f.brier_skill_pct,
  f.brier_skill_vol_pct,
  f.ic,
  f.top_decile_excess_pct_a_year,
  b.seconds,
  b.made_at,
FROM backtest AS b
LEFT JOIN figure AS f ON f.backtest_id = b.backtest_id
ORDER BY b.made_at DESC, b.backtest_id
