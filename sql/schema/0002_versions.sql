-- Facts get versions: a corrected row is a new version beside the old one, never an overwrite.
-- version:      1 = as it was first told; a correction counts from its own available_at on
-- retracted_at: when this store learned that a version should never have counted; NULL = it stands

ALTER TABLE raw_price ADD COLUMN version USMALLINT DEFAULT 1;
ALTER TABLE raw_price ADD COLUMN retracted_at TIMESTAMP;

ALTER TABLE raw_market_cap ADD COLUMN version USMALLINT DEFAULT 1;
ALTER TABLE raw_market_cap ADD COLUMN retracted_at TIMESTAMP;

ALTER TABLE raw_listing ADD COLUMN version USMALLINT DEFAULT 1;
ALTER TABLE raw_listing ADD COLUMN retracted_at TIMESTAMP;

ALTER TABLE raw_financial ADD COLUMN version USMALLINT DEFAULT 1;
ALTER TABLE raw_financial ADD COLUMN retracted_at TIMESTAMP;

ALTER TABLE raw_valuation ADD COLUMN version USMALLINT DEFAULT 1;
ALTER TABLE raw_valuation ADD COLUMN retracted_at TIMESTAMP;

ALTER TABLE raw_flow ADD COLUMN version USMALLINT DEFAULT 1;
ALTER TABLE raw_flow ADD COLUMN retracted_at TIMESTAMP;

ALTER TABLE raw_market_flow ADD COLUMN version USMALLINT DEFAULT 1;
ALTER TABLE raw_market_flow ADD COLUMN retracted_at TIMESTAMP;

ALTER TABLE raw_macro ADD COLUMN version USMALLINT DEFAULT 1;
ALTER TABLE raw_macro ADD COLUMN retracted_at TIMESTAMP;


-- Splits, rights issues, capital reductions as a source states them. Without one, raw prices tell (price_action).
CREATE TABLE raw_corporate_action (
  ticker       VARCHAR NOT NULL,
  session      DATE NOT NULL,         -- the first session at the new price level
  factor       DOUBLE NOT NULL,       -- new price level / old: 0.02 for a 50:1 split
  kind         VARCHAR,
  source       VARCHAR NOT NULL,
  available_at TIMESTAMP NOT NULL,
  ingested_at  TIMESTAMP NOT NULL,
  version      USMALLINT DEFAULT 1,
  retracted_at TIMESTAMP,
);

-- What the raw prices of a ticker were found to be multiplied by, and all of it so far: raw price / cumulative is in
-- the level of the ticker's first bar, which no later split changes.
CREATE TABLE price_action (
  ticker     VARCHAR NOT NULL,
  session    DATE NOT NULL,
  factor     DOUBLE NOT NULL,
  cumulative DOUBLE NOT NULL,         -- product of the factors from the first bar through this session
  evidence   VARCHAR NOT NULL,        -- stated, base_price, shares
);

-- A source of adjusted prices that came back at another level: a split between two ingests.
CREATE TABLE price_restatement (
  run_id       VARCHAR NOT NULL,
  ticker       VARCHAR NOT NULL,
  ratio        DOUBLE NOT NULL,       -- new price / old on the sessions both hold
  n_overlap    BIGINT NOT NULL,       -- rows of the source that were already stored, at the old level
  n_rescaled   BIGINT NOT NULL,       -- older rows that the source did not hold and that were brought to its level
  ingested_at  TIMESTAMP NOT NULL,
);

-- The ledger of features: one row a session, written in the transaction of its rows. A backfill that was interrupted
-- goes on after the last one.
DROP TABLE feature_build;
CREATE TABLE feature_session (
  as_of             DATE NOT NULL,
  n_rows            BIGINT NOT NULL,
  n_scoreable       BIGINT NOT NULL,
  definition_digest VARCHAR NOT NULL, -- of everything a value depends on besides the raw rows
  run_id            VARCHAR NOT NULL,
  built_at          TIMESTAMP NOT NULL,
);

-- Registered features beside the contract's: a column of feature_daily each, built apart, so that adding one computes
-- only that one.
CREATE TABLE extra_feature (
  name              VARCHAR NOT NULL,
  definition_digest VARCHAR NOT NULL, -- of its definition and of what it is computed from
  through_session   DATE NOT NULL,    -- its backfill has come this far
  run_id            VARCHAR NOT NULL,
  built_at          TIMESTAMP NOT NULL,
);

-- A corrected price leaves the features of nights that did not know it, but what came true is what is known now.
CREATE TABLE label_due (
  from_date DATE NOT NULL,            -- labels of sessions whose outcome may have changed begin HORIZON before it
  run_id    VARCHAR NOT NULL,
);

-- What the recursive averages of each ticker stood at after a session, so that the next one goes on from there.
CREATE TABLE feature_state (
  session       DATE NOT NULL,        -- checkpoint: every bar up to it is in the numbers
  ticker        VARCHAR NOT NULL,
  reach_from    DATE NOT NULL,        -- session of the oldest bar that the next one's rolling windows reach
  n_bars        DOUBLE NOT NULL,
  ema_12        DOUBLE NOT NULL,      -- in the level of the ticker's first bar, as all prices here
  ema_26        DOUBLE NOT NULL,
  ema_50        DOUBLE NOT NULL,
  ema_50_back_1 DOUBLE,               -- a bar earlier, and so on
  ema_50_back_2 DOUBLE,
  ema_50_back_3 DOUBLE,
  ema_200       DOUBLE NOT NULL,
  macd_signal   DOUBLE NOT NULL,
  gain          DOUBLE NOT NULL,
  loss          DOUBLE NOT NULL,
);

-- What every audit found, kept for the record and for charts.
CREATE TABLE audit_result (
  as_of       DATE NOT NULL,
  audit       VARCHAR NOT NULL,
  severity    VARCHAR NOT NULL,       -- fail or warn
  n_offending BIGINT NOT NULL,
  sample      VARCHAR NOT NULL,       -- JSON: the first offending rows
  run_id      VARCHAR NOT NULL,
  audited_at  TIMESTAMP NOT NULL,
);

-- Whether a version counted in what this store held at an instant.
CREATE MACRO is_held(ingested_at, retracted_at, stored_at) AS
  ingested_at <= stored_at AND (retracted_at IS NULL OR retracted_at > stored_at);
