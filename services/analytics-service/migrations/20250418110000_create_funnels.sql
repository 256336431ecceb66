-- +goose ENVSUB ON
-- +goose Up
-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.funnel_steps_local (
    funnel LowCardinality(String),
    step UInt8,
    event_name String,
    updated_at DateTime64(3) DEFAULT now64(3)
) ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (funnel, step);
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TABLE IF NOT EXISTS ${CLICKHOUSE_DATABASE}.funnel_steps AS ${CLICKHOUSE_DATABASE}.funnel_steps_local
ENGINE = Distributed('${CLICKHOUSE_CLUSTER:-default}', '${CLICKHOUSE_DATABASE}', 'funnel_steps_local', cityHash64(funnel));
-- +goose StatementEnd

-- Seeded where the table is, not through the Distributed one, whose inserts arrive some time later. A second
-- run adds the same keys again and ReplacingMergeTree folds them together.
-- +goose StatementBegin
INSERT INTO ${CLICKHOUSE_DATABASE}.funnel_steps_local (funnel, step, event_name) VALUES
    ('registration', 1, 'registration_started'),
    ('registration', 2, 'email_verified'),
    ('registration', 3, 'profile_completed');
-- +goose StatementEnd

-- A plain view: a funnel is asked for a few times a day, over a window that nobody knows beforehand.
-- +goose StatementBegin
CREATE VIEW IF NOT EXISTS ${CLICKHOUSE_DATABASE}.funnel_reached AS
SELECT
    toDate(e.timestamp) AS day,
    s.funnel AS funnel,
    s.step AS step,
    uniqExact(e.session_id) AS sessions
FROM ${CLICKHOUSE_DATABASE}.events AS e
GLOBAL INNER JOIN ${CLICKHOUSE_DATABASE}.funnel_steps AS s ON s.event_name = e.event_name
GROUP BY day, funnel, step;
-- +goose StatementEnd

-- +goose Down
DROP VIEW IF EXISTS ${CLICKHOUSE_DATABASE}.funnel_reached;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.funnel_steps;
DROP TABLE IF EXISTS ${CLICKHOUSE_DATABASE}.funnel_steps_local;
