-- +goose ENVSUB ON
-- +goose Up

-- One row per thing that somebody did. Ordered by tenant and time, because an auditor asks for one tenant's
-- days; the actor is found through an index that a later migration adds.
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.audit_events_local (
    id UUID DEFAULT generateUUIDv7(),
    occurred_at DateTime64(6),
    recorded_at DateTime64(6) DEFAULT now64(6),
    tenant_id LowCardinality(String),
    actor_id String,
    action LowCardinality(String),
    resource_type LowCardinality(String),
    resource_id String,
    outcome Enum8('success' = 1, 'denied' = 2, 'error' = 3),
    details String DEFAULT '{}' CODEC(ZSTD(3))
) ENGINE = MergeTree()
PARTITION BY toYYYYMM(occurred_at)
ORDER BY (tenant_id, toDate(occurred_at), action, occurred_at);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.audit_events AS ${CLICKHOUSE_DATABASE}.audit_events_local
ENGINE = Distributed('${CLICKHOUSE_CLUSTER:-default}', '${CLICKHOUSE_DATABASE}', 'audit_events_local', cityHash64(tenant_id));
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.audit_events;
-- +goose StatementEnd

-- +goose StatementBegin
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.audit_events_local;
-- +goose StatementEnd
