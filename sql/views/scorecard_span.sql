-- what:   the sessions that each span of a running scorecard is made of: the newest 20, 60, 120 and all of them, of each
--         model version and of whoever served ('every version')
-- grain:  model_version, span, as_of
-- reads:  scorecard
-- params:
WITH
length (span, n_sessions) AS (
  VALUES ('last 20', 20), ('last 60', 60), ('last 120', 120), ('all', NULL)
),
counted AS (
  SELECT as_of, model_version, row_number() OVER (PARTITION BY model_version ORDER BY as_of DESC) AS nth
  FROM scorecard
  UNION ALL
  SELECT as_of, 'every version' AS model_version, row_number() OVER (ORDER BY as_of DESC) AS nth
  FROM scorecard
)
SELECT c.model_version, l.span, c.as_of
FROM counted AS c
JOIN length AS l ON c.nth <= coalesce(l.n_sessions, c.nth)
