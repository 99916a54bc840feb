-- what:   SHA-256 over what the bot acts on of each session, recomputed from the rows (a view of the published file)
-- grain:  as_of
-- reads:  prediction
-- params:
WITH
prediction_text AS (
  SELECT
    as_of,
    rank,
    ticker,
    concat_ws(
      '|',
      ticker,
      CAST(rank AS VARCHAR),
      CAST(probability AS VARCHAR),
      CAST(signal AS VARCHAR),
      label,
      CAST(score_bonus AS VARCHAR),
      coalesce(CAST(lgbm AS VARCHAR), ''),
      coalesce(CAST(xgb AS VARCHAR), ''),
      coalesce(CAST(lstm AS VARCHAR), ''),
      shap_top3,
      model_version,
      coalesce(degraded_why, '')
    ) AS row_text,
  FROM prediction
)
SELECT as_of, count(*) AS n_predictions, sha256(string_agg(row_text, chr(10) ORDER BY rank, ticker)) AS digest
FROM prediction_text
GROUP BY as_of
ORDER BY as_of
