-- what:   the features of every bar with what came true five sessions later, NULL where that is not known yet
-- grain:  ticker, as_of
-- reads:  feature label_daily
-- params:
SELECT
  f.*,
  l.label_5d,
  l.forward_return,
  l.is_delisted,
  l.known_on,
FROM feature AS f
LEFT JOIN label_daily AS l ON l.ticker = f.ticker AND l.as_of = f.as_of
