-- +goose ENVSUB ON
-- +goose Up
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.daily_actor_activity_local (
    day Date,
    tenant_id LowCardinality(String),
    actor_id String,
    events SimpleAggregateFunction(sum, UInt64),
    denied SimpleAggregateFunction(sum, UInt64),
    last_seen_at SimpleAggregateFunction(max, DateTime64(6))
) ENGINE = AggregatingMergeTree()
PARTITION BY toYYYYMM(day)
ORDER BY (tenant_id, day, actor_id);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.daily_actor_activity AS ${CLICKHOUSE_DATABASE}.daily_actor_activity_local
ENGINE = Distributed('${CLICKHOUSE_CLUSTER:-default}', '${CLICKHOUSE_DATABASE}', 'daily_actor_activity_local', cityHash64(tenant_id));
-- +goose StatementEnd

-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS ${CLICKHOUSE_DATABASE}.daily_actor_activity_mv
TO ${CLICKHOUSE_DATABASE}.daily_actor_activity_local AS
SELECT
    toDate(occurred_at) AS day,
    tenant_id,
    actor_id,
    count() AS events,
    countIf(outcome = 'denied') AS denied,
    max(occurred_at) AS last_seen_at
FROM ${CLICKHOUSE_DATABASE}.audit_events_local
GROUP BY day, tenant_id, actor_id;
-- +goose StatementEnd

-- +goose Down
DROP VIEW IF EXISTS ${CLICKHOUSE_DATABASE}.daily_actor_activity_mv;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.daily_actor_activity;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.daily_actor_activity_local;
