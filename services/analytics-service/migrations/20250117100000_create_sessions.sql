-- +goose ENVSUB ON
-- +goose Up

-- A session is written again as it grows. ReplacingMergeTree keeps the newest version at some later merge,
-- so readers that need exactly one row ask with FINAL.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.sessions_local (
    session_id String,
    user_id String DEFAULT '',
    started_at DateTime64(3),
    ended_at Nullable(DateTime64(3)),
    entry_page String DEFAULT '',
    exit_page String DEFAULT '',
    event_count UInt32 DEFAULT 0,
    country LowCardinality(String) DEFAULT '',
    updated_at DateTime64(3) DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(updated_at)
PARTITION BY toYYYYMM(started_at)
ORDER BY (session_id, started_at);
-- +goose StatementEnd

-- Sharded as events are, so that the parts of one session always meet on one node.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.sessions AS ${CLICKHOUSE_DATABASE}.sessions_local
ENGINE = Distributed('${CLICKHOUSE_CLUSTER:-default}', '${CLICKHOUSE_DATABASE}', 'sessions_local', cityHash64(session_id));
-- +goose StatementEnd

-- +goose Down
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.sessions;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.sessions_local;
