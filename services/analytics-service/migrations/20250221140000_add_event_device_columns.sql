-- +goose ENVSUB ON
-- +goose Up

-- Local before Distributed: a Distributed table that names a column its shards lack fails every read of it.
-- Several columns in one ALTER are checked together: either all are added or none is.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local
    ADD COLUMN IF NOT EXISTS platform LowCardinality(String) DEFAULT '' AFTER event_name,
    ADD COLUMN IF NOT EXISTS app_version LowCardinality(String) DEFAULT '' AFTER platform,
    ADD COLUMN IF NOT EXISTS received_at DateTime64(3) DEFAULT timestamp CODEC(Delta, ZSTD);
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events
    ADD COLUMN IF NOT EXISTS platform LowCardinality(String) DEFAULT '' AFTER event_name,
    ADD COLUMN IF NOT EXISTS app_version LowCardinality(String) DEFAULT '' AFTER platform,
    ADD COLUMN IF NOT EXISTS received_at DateTime64(3) DEFAULT timestamp;
-- +goose StatementEnd

-- +goose Down

-- The other way round, for the same reason.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events
    DROP COLUMN IF EXISTS received_at,
    DROP COLUMN IF EXISTS app_version,
    DROP COLUMN IF EXISTS platform;
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local
    DROP COLUMN IF EXISTS received_at,
    DROP COLUMN IF EXISTS app_version,
    DROP COLUMN IF EXISTS platform;
-- +goose StatementEnd
