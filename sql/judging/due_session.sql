-- what:   the sessions marked as not judged since something changed, and whether all their outcomes are known by now
-- grain:  as_of
-- reads:  outcome_due label_daily
-- params: known_through
WITH
marked AS (
  SELECT DISTINCT as_of FROM outcome_due
),
matured AS (
  SELECT as_of, max(known_on) AS known_on
  FROM label_daily
  WHERE as_of IN (SELECT as_of FROM marked)
  GROUP BY as_of
)
SELECT m.as_of, coalesce(t.known_on <= $known_through, false) AS is_matured
FROM marked AS m
LEFT JOIN matured AS t ON t.as_of = m.as_of
ORDER BY m.as_of
