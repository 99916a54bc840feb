-- Why a stock stands out from its session: nights of before this column explained nothing, and so say [].
ALTER TABLE prediction ADD COLUMN shap_top3 VARCHAR DEFAULT '[]';
