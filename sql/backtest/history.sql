-- what:   the sessions with features, how many stocks of each can be scored, and by when their outcomes were known
-- grain:  session
-- reads:  feature_session label_daily
-- params:
WITH
outcome AS (
  SELECT as_of, max(known_on) AS known_on FROM label_daily GROUP BY as_of
)
SELECT
  f.as_of AS session,
  f.n_rows,
  f.n_scoreable,
  o.known_on,
FROM feature_session AS f
LEFT JOIN outcome AS o ON o.as_of = f.as_of
ORDER BY session
