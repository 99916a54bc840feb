-- what:   of how many stocks each session's predictions are, and how many hours after its cut-off they were scored first
-- grain:  as_of
-- reads:  prediction feature_daily raw_calendar
-- params: n
WITH
scored AS (
  SELECT as_of, count(*) AS n_scored, min(scored_at) AS scored_at FROM prediction GROUP BY as_of
),
newest AS (
  SELECT as_of, n_scored, scored_at FROM scored ORDER BY as_of DESC LIMIT $n
),
known AS (
  SELECT as_of, count(*) AS n_known
  FROM feature_daily
  WHERE as_of >= (SELECT min(as_of) FROM newest)
  GROUP BY as_of
)
SELECT
  s.as_of,
  s.n_scored,
  k.n_known,
  s.n_scored / nullif(k.n_known, 0) AS share,
  epoch(s.scored_at - c.cutoff_at) / 3600 AS hours_after_cutoff,
FROM newest AS s
LEFT JOIN known AS k ON k.as_of = s.as_of
LEFT JOIN raw_calendar AS c ON c.session = s.as_of
ORDER BY s.as_of
