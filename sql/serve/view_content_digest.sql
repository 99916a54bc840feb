-- what:   SHA-256 over what the bot acts on, recomputed from the rows (a view of the published file): anyone who asks it
--         learns whether the rows are still those that publication.digest was written for
-- grain:  one row
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
),
-- A session at a time: one text of all history would not fit the memory of a small machine.
session_digest AS (
  SELECT as_of, sha256(string_agg(row_text, chr(10) ORDER BY rank, ticker)) AS digest
  FROM prediction_text
  GROUP BY as_of
)
SELECT sha256(string_agg(CAST(as_of AS VARCHAR) || digest, chr(10) ORDER BY as_of)) AS digest
FROM session_digest
ORDER BY digest
