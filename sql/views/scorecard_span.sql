-- what:   the sessions that each span of a running scorecard is made of: the newest 20, 60, 120 and all of them, of each
--         model version and of whoever served ('every version'); none that was published degraded
-- grain:  model_version, span, as_of
-- reads:  scorecard prediction
-- params:
WITH
length (span, n_sessions) AS (
  VALUES ('last 20', 20), ('last 60', 60), ('last 120', 120), ('all', NULL)
),
sound AS (              -- what was published although something was missing says nothing about the model
  SELECT as_of, model_version
  FROM scorecard
  WHERE as_of NOT IN (SELECT as_of FROM prediction WHERE degraded_why IS NOT NULL)
),
counted AS (
  SELECT as_of, model_version, row_number() OVER (PARTITION BY model_version ORDER BY as_of DESC) AS nth
  FROM sound
  UNION ALL
  SELECT as_of, 'every version' AS model_version, row_number() OVER (ORDER BY as_of DESC) AS nth
  FROM sound
)
SELECT c.model_version, l.span, c.as_of
FROM counted AS c
JOIN length AS l ON c.nth <= coalesce(l.n_sessions, c.nth)
