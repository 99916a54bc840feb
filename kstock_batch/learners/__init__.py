"""The members of the ensemble; torch, lightgbm and xgboost are imported only here."""
