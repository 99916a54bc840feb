-- what:   what the predictions of the newest matured sessions were worth, beside what their model promised out of fold
-- grain:  model_version, span
-- reads:  scorecard scorecard_span scorecard_decile running_decile model_promise
-- params:
WITH
top AS (                -- a session of fewer than ten stocks has no top decile
  SELECT as_of, n_hits / n AS hit_rate FROM scorecard_decile WHERE decile = 10
),
total AS (
  SELECT
    s.model_version,
    s.span,
    count(*) AS n_sessions,
    min(c.as_of) AS first_session,
    max(c.as_of) AS last_session,
    CAST(sum(c.n) AS BIGINT) AS n,
    sum(c.probability_sum) / sum(c.n) AS forecast,
    sum(c.n_hits) / sum(c.n) AS hit_rate,
    avg(t.hit_rate) / nullif(avg(c.n_hits / c.n), 0) AS lift,
    avg(c.auc) AS auc_day,
    sum(c.auc_vol_sum) / nullif(sum(c.n_auc_vol), 0) AS auc_day_vol,
    sum(c.log_loss_sum) / sum(c.n) AS log_loss,
    sum(c.base_log_loss_sum) / sum(c.n) AS base_log_loss,
    sum(c.floor_log_loss_sum) / sum(c.n) FILTER (c.floor_log_loss_sum IS NOT NULL) AS floor_log_loss,
    100 * (1 - sum(c.brier_sum) / nullif(sum(c.base_brier_sum), 0)) AS brier_skill_pct,
    100 * (
      1 - sum(c.brier_sum) FILTER (c.floor_brier_sum IS NOT NULL) / nullif(sum(c.floor_brier_sum), 0)
    ) AS brier_skill_vol_pct,
    avg(p.auc_day) AS promised_auc_day,
    avg(p.auc_day_vol) AS promised_auc_day_vol,
    avg(p.log_loss) AS promised_log_loss,
    avg(p.floor_log_loss) AS promised_floor_log_loss,
  FROM scorecard_span AS s
  JOIN scorecard AS c ON c.as_of = s.as_of
  LEFT JOIN top AS t ON t.as_of = s.as_of
  LEFT JOIN model_promise AS p ON p.model_version = c.model_version
  GROUP BY s.model_version, s.span
),
reliability AS (
  SELECT model_version, span, 100 * sum(n * abs(forecast - hit_rate)) / sum(n) AS decile_error_pct
  FROM running_decile
  GROUP BY model_version, span
)
SELECT
  t.model_version,
  t.span,
  t.n_sessions,
  t.first_session,
  t.last_session,
  t.n,
  t.forecast,
  t.hit_rate,
  t.lift,
  t.auc_day,
  t.auc_day_vol,
  t.log_loss,
  t.base_log_loss,
  t.floor_log_loss,
  t.brier_skill_pct,
  t.brier_skill_vol_pct,
  t.promised_auc_day,
  t.promised_auc_day_vol,
  t.promised_log_loss,
  t.promised_floor_log_loss,
  r.decile_error_pct,
FROM total AS t
JOIN reliability AS r ON r.model_version = t.model_version AND r.span = t.span
