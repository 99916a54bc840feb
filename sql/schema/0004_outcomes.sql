-- What came true of what was served, and what it is measured against.
-- What a night said is written that night, in the transaction of its predictions: nothing is fitted with hindsight.

-- What the volatility floor of the model's own version said of the same stocks the same night.
CREATE TABLE floor_prediction (
  as_of      DATE NOT NULL,
  ticker     VARCHAR NOT NULL,
  atr_pct    DOUBLE,                  -- as the night knew it
  volatility DOUBLE NOT NULL,         -- the floor's probability
);

-- What a version was worth out of fold, as its manifest says: it may be pruned before its predictions are judged.
CREATE TABLE model_promise (
  model_version       VARCHAR NOT NULL,
  n_sessions          INTEGER NOT NULL,  -- judged out of fold
  log_loss            DOUBLE,
  floor_log_loss      DOUBLE,            -- of the volatility floor on the same rows
  brier_skill_pct     DOUBLE,
  brier_skill_vol_pct DOUBLE,
  auc_day             DOUBLE,
  auc_day_vol         DOUBLE,
  ece_pct             DOUBLE,
);

-- Sessions whose predictions or outcomes changed and were not judged since: written and cleared in the transactions
-- that make it true, so neither a kill nor a clock set back can lose it.
CREATE TABLE outcome_due (
  as_of  DATE NOT NULL,
  run_id VARCHAR NOT NULL,
);
INSERT INTO outcome_due SELECT DISTINCT as_of, 'migration 0004' FROM prediction;

-- How far predicted stocks had come before the horizon; what they came to at its end is in label_daily.
CREATE TABLE early_return (
  as_of     DATE NOT NULL,
  ticker    VARCHAR NOT NULL,
  return_1d DOUBLE,                   -- adjusted close one session later / close - 1
  return_3d DOUBLE,
);

-- One row a session that matured, as sums that can be added up over any sessions.
CREATE TABLE scorecard (
  as_of              DATE NOT NULL,
  model_version      VARCHAR NOT NULL,
  known_on           DATE NOT NULL,      -- the session after whose close all of it was known
  n_predictions      BIGINT NOT NULL,
  n                  BIGINT NOT NULL,    -- with a known outcome; all sums are over these
  n_hits             BIGINT NOT NULL,
  probability_sum    DOUBLE NOT NULL,
  log_loss_sum       DOUBLE NOT NULL,
  brier_sum          DOUBLE NOT NULL,
  base_log_loss_sum  DOUBLE NOT NULL,    -- of always saying the base rate of the training rows
  base_brier_sum     DOUBLE NOT NULL,
  floor_log_loss_sum DOUBLE,             -- NULL = that night kept no floor
  floor_brier_sum    DOUBLE,
  auc                DOUBLE,             -- inside the session; NULL = only one outcome occurred
  auc_vol_sum        DOUBLE,             -- over the volatility quintiles in which both outcomes occurred
  n_auc_vol          INTEGER,
  run_id             VARCHAR NOT NULL,
  judged_at          TIMESTAMP NOT NULL,
);

-- The same by tenths of the session: 1 = the lowest probabilities, 10 = the highest.
CREATE TABLE scorecard_decile (
  as_of           DATE NOT NULL,
  model_version   VARCHAR NOT NULL,
  decile          UTINYINT NOT NULL,
  n               BIGINT NOT NULL,
  n_hits          BIGINT NOT NULL,
  probability_sum DOUBLE NOT NULL,
  n_early         BIGINT NOT NULL,       -- with known returns after one and three sessions
  return_1d_sum   DOUBLE NOT NULL,
  return_3d_sum   DOUBLE NOT NULL,
  return_5d_sum   DOUBLE NOT NULL,       -- over n
);

-- Whether what is served still is what was promised: one verdict a night.
CREATE TABLE drift (
  as_of         DATE NOT NULL,           -- the night it was given; it knows no outcome of later
  model_version VARCHAR NOT NULL,        -- the champion that night
  state         VARCHAR NOT NULL,        -- ok, watch, drifted
  sentence      VARCHAR NOT NULL,
  n_sessions    INTEGER NOT NULL,        -- judged
  first_session DATE,
  last_session  DATE,
  checks        VARCHAR NOT NULL,        -- JSON: each check with its value, its limits and its sentence
  run_id        VARCHAR NOT NULL,
  judged_at     TIMESTAMP NOT NULL,
);
