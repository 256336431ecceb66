-- +goose ENVSUB ON
-- +goose Up

-- Local before Distributed: a Distributed table that names a column its shards lack fails every read of it.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local
    ADD COLUMN IF NOT EXISTS actor_type LowCardinality(String) DEFAULT '' AFTER actor_id,
    ADD COLUMN IF NOT EXISTS ip_address IPv6 DEFAULT toIPv6('::'),
    ADD COLUMN IF NOT EXISTS user_agent String DEFAULT '',
    ADD COLUMN IF NOT EXISTS trace_id String DEFAULT '';
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events
    ADD COLUMN IF NOT EXISTS actor_type LowCardinality(String) DEFAULT '' AFTER actor_id,
    ADD COLUMN IF NOT EXISTS ip_address IPv6 DEFAULT toIPv6('::'),
    ADD COLUMN IF NOT EXISTS user_agent String DEFAULT '',
    ADD COLUMN IF NOT EXISTS trace_id String DEFAULT '';
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events
    DROP COLUMN IF EXISTS trace_id,
    DROP COLUMN IF EXISTS user_agent,
    DROP COLUMN IF EXISTS ip_address,
    DROP COLUMN IF EXISTS actor_type;
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local
    DROP COLUMN IF EXISTS trace_id,
    DROP COLUMN IF EXISTS user_agent,
    DROP COLUMN IF EXISTS ip_address,
    DROP COLUMN IF EXISTS actor_type;
-- +goose StatementEnd
