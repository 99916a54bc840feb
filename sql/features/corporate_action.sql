-- what:   splits, rights issues and capital reductions as a source states them, in the newest version known by their own
--         night; one that came later changes no price
-- grain:  ticker, session
-- reads:  raw_corporate_action raw_calendar
-- params: end known_at stored_at
SELECT a.ticker, a.session, a.factor
FROM raw_corporate_action AS a
JOIN raw_calendar AS c ON c.session = a.session
WHERE a.session <= $end
  AND a.available_at <= least(c.cutoff_at, $known_at)
  AND is_held(a.ingested_at, a.retracted_at, $stored_at)
QUALIFY row_number() OVER (PARTITION BY a.ticker, a.session ORDER BY a.version DESC) = 1
ORDER BY a.ticker, a.session
