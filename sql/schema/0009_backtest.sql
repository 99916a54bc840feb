-- Backtests: what retrains as of past nights would have said of the sessions after them, and what that was worth.
-- All of one backtest is written in one transaction and replaced as a whole.

CREATE TABLE backtest (
  backtest_id   VARCHAR NOT NULL,
  first_session DATE NOT NULL,     -- that was scored
  last_session  DATE NOT NULL,
  refit         VARCHAR NOT NULL,  -- how often, as it was asked for
  n_refits      INTEGER NOT NULL,
  n_predictions BIGINT NOT NULL,
  settings      VARCHAR NOT NULL,  -- JSON: all that decides a prediction
  costs         VARCHAR NOT NULL,  -- JSON: what trading was taken to cost
  fingerprint   VARCHAR NOT NULL,  -- of the data
  seconds       DOUBLE NOT NULL,   -- that the refits took, all together
  run_id        VARCHAR NOT NULL,
  made_at       TIMESTAMP NOT NULL,
);

CREATE TABLE backtest_refit (
  backtest_id   VARCHAR NOT NULL,
  refit         DATE NOT NULL,     -- the night whose knowledge was learnt from
  first_session DATE NOT NULL,     -- that its model scored
  last_session  DATE NOT NULL,
  train_first   DATE NOT NULL,
  train_last    DATE NOT NULL,
  n_windows     BIGINT NOT NULL,
  n_fitted      INTEGER NOT NULL,  -- folds that were trained
  base_rate     DOUBLE NOT NULL,
  weights       VARCHAR NOT NULL,  -- JSON
  weights_are   VARCHAR NOT NULL,
  durations     VARCHAR NOT NULL,  -- JSON
  over_budget   VARCHAR NOT NULL,  -- JSON
  gate_passed   BOOLEAN NOT NULL,
  gate_reason   VARCHAR NOT NULL,
  n_predictions BIGINT NOT NULL,
  seconds       DOUBLE NOT NULL,
);

CREATE TABLE backtest_prediction (
  backtest_id    VARCHAR NOT NULL,
  as_of          DATE NOT NULL,
  ticker         VARCHAR NOT NULL,
  refit          DATE NOT NULL,
  probability    FLOAT NOT NULL,
  lgbm           FLOAT,
  xgb            FLOAT,
  lstm           FLOAT,
  volatility     FLOAT NOT NULL,
  linear         FLOAT NOT NULL,
  base_rate      FLOAT NOT NULL,
  label_5d       UTINYINT,
  forward_return FLOAT,
);

CREATE TABLE backtest_session (
  backtest_id        VARCHAR NOT NULL,
  variant            VARCHAR NOT NULL,
  as_of              DATE NOT NULL,
  trend              VARCHAR NOT NULL,
  mood               VARCHAR NOT NULL,
  known_on           DATE NOT NULL,
  n                  BIGINT NOT NULL,
  n_hits             BIGINT NOT NULL,
  probability_sum    DOUBLE NOT NULL,
  log_loss_sum       DOUBLE NOT NULL,
  brier_sum          DOUBLE NOT NULL,
  base_log_loss_sum  DOUBLE NOT NULL,
  base_brier_sum     DOUBLE NOT NULL,
  floor_log_loss_sum DOUBLE,
  floor_brier_sum    DOUBLE,
  auc                DOUBLE,
  auc_vol_sum        DOUBLE,
  n_auc_vol          INTEGER,
  auc_tenth_sum      DOUBLE,
  n_auc_tenth        INTEGER,
  ic                 DOUBLE,
  n_top              BIGINT NOT NULL,
  n_top_hits         BIGINT NOT NULL,
  top_return_sum     DOUBLE NOT NULL,
  return_sum         DOUBLE NOT NULL,
);

CREATE TABLE backtest_decile (
  backtest_id     VARCHAR NOT NULL,
  variant         VARCHAR NOT NULL,
  scope           VARCHAR NOT NULL,
  decile          UTINYINT NOT NULL,
  n               BIGINT NOT NULL,
  forecast        DOUBLE NOT NULL,
  hit_rate        DOUBLE NOT NULL,
  low             DOUBLE,
  high            DOUBLE,
  mean_return_pct DOUBLE NOT NULL,
);

CREATE TABLE backtest_metric (
  backtest_id VARCHAR NOT NULL,
  variant     VARCHAR NOT NULL,
  scope       VARCHAR NOT NULL,    -- all, a year, or a regime
  metric      VARCHAR NOT NULL,
  value       DOUBLE,
  low         DOUBLE,              -- 90 % interval
  high        DOUBLE,
  n_sessions  INTEGER NOT NULL,
);

CREATE TABLE backtest_portfolio (
  backtest_id VARCHAR NOT NULL,
  portfolio   VARCHAR NOT NULL,
  as_of       DATE NOT NULL,
  net_return  DOUBLE NOT NULL,
  equity      DOUBLE NOT NULL,
  bought      DOUBLE NOT NULL,
  sold        DOUBLE NOT NULL,
  costs       DOUBLE NOT NULL,
  tax         DOUBLE NOT NULL,
  n_held      INTEGER NOT NULL,
);
