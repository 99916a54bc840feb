-- what:   the instant from which a restated ticker's rows count at their new level: that of the first session which came
--         with them and is newer than all stored ones. A level is no news of the world, and a night that has such a row
--         must not join it to older ones at another level
-- grain:  ticker
-- reads:  delta raw_price restated
-- params:
WITH
stored AS (
  SELECT ticker, max(session) AS last_session
  FROM raw_price
  WHERE price_basis = 'adjusted' AND ticker IN (SELECT ticker FROM restated)
  GROUP BY ticker
)
SELECT s.ticker, s.last_session, min(d.available_at) AS counts_from
FROM stored AS s
JOIN delta AS d ON d.ticker = s.ticker AND d.session > s.last_session
WHERE d.price_basis = 'adjusted'
GROUP BY s.ticker, s.last_session
ORDER BY s.ticker
