-- +goose ENVSUB ON
-- +goose Up

-- Target, Distributed, then the view's query: in any other order an insert into events would write a column
-- that does not exist yet. The sorting key grows in the same ALTER that adds its column, the only way allowed.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.daily_event_counts_local
    ADD COLUMN IF NOT EXISTS platform LowCardinality(String),
    MODIFY ORDER BY (day, event_name, platform);
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.daily_event_counts ADD COLUMN IF NOT EXISTS platform LowCardinality(String);
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.daily_event_counts_mv MODIFY QUERY
SELECT
    toDate(timestamp) AS day,
    event_name,
    platform,
    count() AS events,
    uniqState(session_id) AS sessions
FROM ${CLICKHOUSE_DATABASE}.events_local
GROUP BY day, event_name, platform;
-- +goose StatementEnd

-- +goose Down

-- A column of the sorting key cannot be dropped. The counts are derived, so the table is made anew in its
-- former shape and filled again from the raw events that are still kept.
DROP VIEW IF EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts_mv;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.daily_event_counts_local;

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

-- +goose StatementBegin
INSERT INTO ${CLICKHOUSE_DATABASE}.daily_event_counts_local (day, event_name, events, sessions)
SELECT toDate(timestamp) AS day, event_name, count() AS events, uniqState(session_id) AS sessions
FROM ${CLICKHOUSE_DATABASE}.events_local
GROUP BY day, event_name;
-- +goose StatementEnd

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
