-- what:   the columns the bot's ml_predictions readers expect (a view of the published file); probability is the one
--         under an even prior, because every threshold of the bot takes 0.5 as neutral
-- grain:  pred_date, ticker
-- reads:  prediction
-- params:
SELECT ticker, as_of AS pred_date, signal AS probability, shap_top3
FROM prediction
ORDER BY pred_date DESC, ticker
