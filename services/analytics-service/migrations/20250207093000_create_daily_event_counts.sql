-- +goose ENVSUB ON
-- +goose Up
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts_local (
    day Date,
    event_name LowCardinality(String),
    events SimpleAggregateFunction(sum, UInt64),
    sessions AggregateFunction(uniq, String)
) ENGINE = AggregatingMergeTree()
PARTITION BY toYear(day)
ORDER BY (day, event_name);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts AS ${CLICKHOUSE_DATABASE}.daily_event_counts_local
ENGINE = Distributed('${CLICKHOUSE_CLUSTER:-default}', '${CLICKHOUSE_DATABASE}', 'daily_event_counts_local', rand());
-- +goose StatementEnd

-- Without POPULATE, which misses the rows that are inserted while it runs.
-- +goose StatementBegin
CREATE MATERIALIZED VIEW IF NOT EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts_mv
TO ${CLICKHOUSE_DATABASE}.daily_event_counts_local AS
SELECT
    toDate(timestamp) AS day,
    event_name,
    count() AS events,
    uniqState(session_id) AS sessions
FROM ${CLICKHOUSE_DATABASE}.events_local
GROUP BY day, event_name;
-- +goose StatementEnd

-- +goose Down
DROP VIEW IF EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts_mv;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts_local;
