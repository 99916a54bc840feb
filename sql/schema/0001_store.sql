-- The first shape of the store. Times are UTC; a session is an exchange day in Seoul.
-- available_at: when a fact could first be used; ingested_at: when this store learned of it.
-- No primary keys on the big tables (they double load time): writes replace by key, audits look for duplicates.

CREATE TABLE raw_calendar (
  session      DATE PRIMARY KEY,
  cutoff_at    TIMESTAMP NOT NULL,
  available_at TIMESTAMP NOT NULL,
  ingested_at  TIMESTAMP NOT NULL,
);

CREATE TABLE raw_price (
  ticker       VARCHAR NOT NULL,
  session      DATE NOT NULL,
  price_basis  VARCHAR NOT NULL,   -- 'adjusted' for later splits, or 'raw' as the exchange printed it
  open         DOUBLE NOT NULL,
  high         DOUBLE NOT NULL,
  low          DOUBLE NOT NULL,
  close        DOUBLE NOT NULL,
  volume       BIGINT NOT NULL,    -- shares; 0 = did not trade that session
  traded_value DOUBLE,             -- won
  change_pct   DOUBLE,             -- the exchange's own, against the base price
  shares_outstanding BIGINT,       -- as of that session, not adjusted for later splits
  source       VARCHAR NOT NULL,
  available_at TIMESTAMP NOT NULL,
  ingested_at  TIMESTAMP NOT NULL,
);

CREATE TABLE raw_market_cap (
  ticker             VARCHAR NOT NULL,
  session            DATE NOT NULL,
  market_cap         DOUBLE NOT NULL,  -- won, as of that session
  shares_outstanding DOUBLE,           -- as of that session, not adjusted for later splits
  source             VARCHAR NOT NULL,
  available_at       TIMESTAMP NOT NULL,
  ingested_at        TIMESTAMP NOT NULL,
);

CREATE TABLE raw_listing (
  ticker       VARCHAR NOT NULL,
  name         VARCHAR NOT NULL,
  market       VARCHAR NOT NULL,
  sector       VARCHAR,
  industry     VARCHAR,
  is_spac      BOOLEAN NOT NULL,
  is_preferred BOOLEAN NOT NULL,
  first_seen   DATE,
  last_seen    DATE,                   -- NULL = still listed
  source       VARCHAR NOT NULL,
  available_at TIMESTAMP NOT NULL,
  ingested_at  TIMESTAMP NOT NULL,
);

CREATE TABLE raw_financial (
  ticker         VARCHAR NOT NULL,
  period_end     DATE NOT NULL,
  revenue_ytd    DOUBLE,               -- won, since the start of the fiscal year
  op_income_ytd  DOUBLE,
  net_income_ytd DOUBLE,
  equity         DOUBLE,
  liabilities    DOUBLE,
  assets         DOUBLE,
  debt_ratio     DOUBLE,               -- percent
  source         VARCHAR NOT NULL,
  available_at   TIMESTAMP NOT NULL,
  ingested_at    TIMESTAMP NOT NULL,
);

CREATE TABLE raw_valuation (
  ticker       VARCHAR NOT NULL,
  session      DATE NOT NULL,
  per          DOUBLE,                 -- the exchange's own
  pbr          DOUBLE,
  source       VARCHAR NOT NULL,
  available_at TIMESTAMP NOT NULL,
  ingested_at  TIMESTAMP NOT NULL,
);

CREATE TABLE raw_flow (
  ticker              VARCHAR NOT NULL,
  session             DATE NOT NULL,
  foreign_net         DOUBLE,          -- shares bought minus sold
  institution_net     DOUBLE,
  foreign_holding_pct DOUBLE,
  source              VARCHAR NOT NULL,
  available_at        TIMESTAMP NOT NULL,
  ingested_at         TIMESTAMP NOT NULL,
);

CREATE TABLE raw_market_flow (
  market       VARCHAR NOT NULL,
  investor     VARCHAR NOT NULL,
  session      DATE NOT NULL,
  net_value    DOUBLE NOT NULL,        -- won
  source       VARCHAR NOT NULL,
  available_at TIMESTAMP NOT NULL,
  ingested_at  TIMESTAMP NOT NULL,
);

CREATE TABLE raw_macro (
  series       VARCHAR NOT NULL,
  event_date   DATE NOT NULL,          -- in the series' own time zone: a US session date for US series
  close        DOUBLE NOT NULL,
  source       VARCHAR NOT NULL,
  available_at TIMESTAMP NOT NULL,
  ingested_at  TIMESTAMP NOT NULL,
);

CREATE TABLE quarantine (
  run_id      VARCHAR NOT NULL,
  table_name  VARCHAR NOT NULL,
  source      VARCHAR NOT NULL,
  rule        VARCHAR NOT NULL,
  row_json    VARCHAR NOT NULL,        -- the rejected row as the source gave it
  ingested_at TIMESTAMP NOT NULL,
);

CREATE TABLE feature_daily (
  ticker                   VARCHAR NOT NULL,
  as_of                    DATE NOT NULL,
  rsi                      FLOAT,
  bb_pctb                  FLOAT,
  bb_bandwidth             FLOAT,
  macd_histogram           FLOAT,
  macd_signal_cross        FLOAT,
  atr_pct                  FLOAT,
  ema_50                   FLOAT,
  ema_200                  FLOAT,
  golden_cross             FLOAT,
  dead_cross               FLOAT,
  volume_ratio             FLOAT,
  bb_squeeze               FLOAT,
  return_3m_pct            FLOAT,
  high_52w_ratio           FLOAT,
  high_20d_ratio           FLOAT,
  mtf_aligned              FLOAT,
  weekly_trend_up          FLOAT,
  rs_percentile            FLOAT,
  vix                      FLOAT,
  spx_change_pct           FLOAT,
  usdkrw                   FLOAT,
  regime_encoded           FLOAT,
  per                      FLOAT,
  roe                      FLOAT,
  debt_ratio               FLOAT,
  market_cap_log           FLOAT,
  foreign_net_buy_days     FLOAT,
  institution_net_buy_days FLOAT,
  sector_encoded           FLOAT,
  policy_bonus             FLOAT,
  close                    FLOAT NOT NULL,    -- adjusted, won: turns the won columns into ratios
  bars_available           INTEGER NOT NULL,
  null_feature_count       UTINYINT NOT NULL,
  is_scoreable             BOOLEAN NOT NULL,
  feature_set_version      USMALLINT NOT NULL,
);

-- One row a build: what feature_daily reaches and when it was made, so that the next build knows what is new.
CREATE TABLE feature_build (
  feature_set_version USMALLINT NOT NULL,
  fingerprint         VARCHAR NOT NULL,
  definition_digest   VARCHAR NOT NULL,     -- of everything a value depends on besides the raw rows
  from_session        DATE NOT NULL,
  through_session     DATE NOT NULL,
  n_rows              BIGINT NOT NULL,
  run_id              VARCHAR NOT NULL,
  built_at            TIMESTAMP NOT NULL,
);

-- What ingest changed and the features have not seen yet: written and cleared in the transactions that make it
-- true, so neither a kill nor a clock set back can lose it.
CREATE TABLE feature_due (
  table_name VARCHAR NOT NULL,
  from_date  DATE NOT NULL,            -- sessions from this date on may change
  run_id     VARCHAR NOT NULL,
);

CREATE TABLE label_daily (
  ticker         VARCHAR NOT NULL,
  as_of          DATE NOT NULL,
  forward_return DOUBLE NOT NULL,      -- adjusted close five sessions later / close - 1
  label_5d       UTINYINT NOT NULL,    -- 1 = at least +3 %
  is_delisted    BOOLEAN NOT NULL,     -- left the exchange within the five sessions: label 0
  known_on       DATE NOT NULL,        -- the session after whose close the outcome is known
);

CREATE TABLE prediction (
  as_of         DATE NOT NULL,
  ticker        VARCHAR NOT NULL,
  probability   DOUBLE NOT NULL,       -- calibrated: of 100 such cases this many rise 3 %
  signal        DOUBLE NOT NULL,       -- the same evidence under an even prior: 0.5 = no better than the base rate
  label         VARCHAR NOT NULL,      -- STRONG_BUY, BUY, NEUTRAL, AVOID, from signal
  score_bonus   INTEGER NOT NULL,      -- from signal
  base_rate     DOUBLE NOT NULL,
  lift          DOUBLE NOT NULL,       -- probability / base_rate
  rank          INTEGER NOT NULL,      -- 1 = highest probability of the session
  percentile    DOUBLE NOT NULL,       -- 100 = highest
  lgbm          DOUBLE,                -- members, calibrated; NULL = absent
  xgb           DOUBLE,
  lstm          DOUBLE,
  model_version VARCHAR NOT NULL,
  fingerprint   VARCHAR NOT NULL,
  run_id        VARCHAR NOT NULL,
  scored_at     TIMESTAMP NOT NULL,
);

-- Which sessions stand scored, by which model, from the features as they are: a build of features clears what it
-- may have changed, in its own transaction.
CREATE TABLE scored_session (
  as_of         DATE NOT NULL,
  model_version VARCHAR NOT NULL,
  fingerprint   VARCHAR NOT NULL,
  run_id        VARCHAR NOT NULL,
);

CREATE TABLE run (
  run_id      VARCHAR PRIMARY KEY,
  command     VARCHAR NOT NULL,
  as_of       DATE,
  status      VARCHAR NOT NULL,        -- running, done, failed
  pid         INTEGER NOT NULL,
  started_at  TIMESTAMP NOT NULL,
  finished_at TIMESTAMP,
  summary     VARCHAR,
  error       VARCHAR,
);

CREATE TABLE run_stage (
  run_id  VARCHAR NOT NULL,
  stage   VARCHAR NOT NULL,
  n_rows  BIGINT NOT NULL,
  seconds DOUBLE NOT NULL,
);
