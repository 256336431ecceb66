-- +goose ENVSUB ON
-- +goose Up
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.page_views_local (
    timestamp DateTime64(3),
    session_id String,
    path String,
    referrer String DEFAULT '',
    duration_ms UInt32 DEFAULT 0
) ENGINE = MergeTree()
PARTITION BY toYYYYMM(timestamp)
ORDER BY (path, timestamp);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.page_views AS ${CLICKHOUSE_DATABASE}.page_views_local
ENGINE = Distributed('${CLICKHOUSE_CLUSTER:-default}', '${CLICKHOUSE_DATABASE}', 'page_views_local', cityHash64(session_id));
-- +goose StatementEnd

-- Page views are derived from events as these arrive: producers send one stream, not two.
-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS ${CLICKHOUSE_DATABASE}.page_views_mv
TO ${CLICKHOUSE_DATABASE}.page_views_local AS
SELECT
    timestamp,
    session_id,
    JSONExtractString(properties, 'path') AS path,
    JSONExtractString(properties, 'referrer') AS referrer,
    toUInt32(JSONExtractUInt(properties, 'duration_ms')) AS duration_ms
FROM ${CLICKHOUSE_DATABASE}.events_local
WHERE event_name = 'page_view';
-- +goose StatementEnd

-- +goose Down

-- The view first: while it exists, an insert into events still writes to its target.
DROP VIEW IF EXISTS ${CLICKHOUSE_DATABASE}.page_views_mv;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.page_views;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.page_views_local;
