-- Live sources: what they tell beside the panel, what was asked of whom for which day, and where two of them differ.

ALTER TABLE raw_valuation ADD COLUMN eps DOUBLE;
ALTER TABLE raw_valuation ADD COLUMN bps DOUBLE;

CREATE TABLE raw_short_balance (
  ticker            VARCHAR NOT NULL,
  session           DATE NOT NULL,
  short_balance     BIGINT NOT NULL,    -- shares sold short and not yet returned
  short_balance_pct DOUBLE,             -- of the shares listed
  source            VARCHAR NOT NULL,
  available_at      TIMESTAMP NOT NULL,
  ingested_at       TIMESTAMP NOT NULL,
  version           USMALLINT DEFAULT 1,
  retracted_at      TIMESTAMP,
);

-- Administrative issues and the like: a stock under a designation may be delisted.
CREATE TABLE raw_designation (
  ticker        VARCHAR NOT NULL,
  kind          VARCHAR NOT NULL,       -- administrative
  designated_on DATE NOT NULL,
  reason        VARCHAR,
  source        VARCHAR NOT NULL,
  available_at  TIMESTAMP NOT NULL,
  ingested_at   TIMESTAMP NOT NULL,
  version       USMALLINT DEFAULT 1,
  retracted_at  TIMESTAMP,
);

-- One row a source, dataset and day, written in the transaction of its rows: what is done is not asked again.
CREATE TABLE ingest_batch (
  source      VARCHAR NOT NULL,
  dataset     VARCHAR NOT NULL,
  event_date  DATE NOT NULL,
  status      VARCHAR NOT NULL,         -- done, empty, partial, failed
  n_rows      BIGINT NOT NULL,
  n_rejected  BIGINT NOT NULL,
  n_calls     BIGINT NOT NULL,
  why         VARCHAR,                  -- of what is not done
  run_id      VARCHAR NOT NULL,
  finished_at TIMESTAMP NOT NULL,
);

-- Values of one key that two sources tell differently, beyond what rounding explains.
CREATE TABLE source_disagreement (
  table_name   VARCHAR NOT NULL,
  ticker       VARCHAR NOT NULL,
  event_date   DATE NOT NULL,
  column_name  VARCHAR NOT NULL,
  source       VARCHAR NOT NULL,        -- whose value is stored
  value        DOUBLE NOT NULL,
  other_source VARCHAR NOT NULL,
  other_value  DOUBLE NOT NULL,
  run_id       VARCHAR NOT NULL,
  found_at     TIMESTAMP NOT NULL,
);
