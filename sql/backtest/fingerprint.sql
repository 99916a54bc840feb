-- what:   a digest of every feature row, outcome and session that a backtest can reach: other data, another digest
-- grain:  one row
-- reads:  feature_daily label_daily raw_calendar
-- params: start end
WITH
feature AS (
  SELECT count(*) AS n, bit_xor(hash(f)) AS digest FROM feature_daily AS f WHERE as_of BETWEEN $start AND $end
),
label AS (
  SELECT count(*) AS n, bit_xor(hash(l)) AS digest FROM label_daily AS l WHERE as_of >= $start AND known_on <= $end
),
session AS (
  SELECT count(*) AS n, bit_xor(hash(session)) AS digest FROM raw_calendar WHERE session BETWEEN $start AND $end
)
SELECT
  md5(concat_ws(' ', f.n, f.digest, l.n, l.digest, s.n, s.digest)) AS fingerprint,
  f.n AS n_rows,
FROM feature AS f
CROSS JOIN label AS l
CROSS JOIN session AS s
ORDER BY fingerprint
