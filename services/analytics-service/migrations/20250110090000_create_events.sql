-- +goose ENVSUB ON
-- +goose Up

-- Two tables: the data live in events_local on every node, and events fans reads and writes out over the
-- cluster. The database name comes from the environment, because each environment has its own.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.events_local (
    id UUID DEFAULT generateUUIDv7(),
    timestamp DateTime64(3),
    session_id String,
    user_id String DEFAULT '',
    event_name LowCardinality(String),
    properties String DEFAULT '{}'
) ENGINE = MergeTree()
PARTITION BY toYYYYMM(timestamp)
ORDER BY (toDate(timestamp), session_id, timestamp);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.events AS ${CLICKHOUSE_DATABASE}.events_local
ENGINE = Distributed('${CLICKHOUSE_CLUSTER:-default}', '${CLICKHOUSE_DATABASE}', 'events_local', cityHash64(session_id));
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.events;
-- +goose StatementEnd

-- +goose StatementBegin
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.events_local;
-- +goose StatementEnd
