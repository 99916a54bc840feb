-- what:   what came true in each tenth of the sessions' probabilities, over the spans of the running scorecard
-- grain:  model_version, span, decile
-- reads:  scorecard_span scorecard_decile
-- params:
SELECT
  s.model_version,
  s.span,
  d.decile,
  count(*) AS n_sessions,
  CAST(sum(d.n) AS BIGINT) AS n,
  sum(d.probability_sum) / sum(d.n) AS forecast,
  sum(d.n_hits) / sum(d.n) AS hit_rate,
  100 * sum(d.return_1d_sum) / nullif(sum(d.n_early), 0) AS return_1d_pct,
  100 * sum(d.return_3d_sum) / nullif(sum(d.n_early), 0) AS return_3d_pct,
  100 * sum(d.return_5d_sum) / sum(d.n) AS return_5d_pct,
FROM scorecard_span AS s
JOIN scorecard_decile AS d ON d.as_of = s.as_of
GROUP BY s.model_version, s.span, d.decile
