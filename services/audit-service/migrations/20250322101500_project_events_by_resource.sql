-- +goose ENVSUB ON
-- +goose Up

-- "Who touched this document?" is the second question after "what did they do?", and has its own order.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local
    ADD PROJECTION IF NOT EXISTS audit_events_by_resource (SELECT * ORDER BY resource_type, resource_id, occurred_at);
-- +goose StatementEnd

-- +goose Down
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local DROP PROJECTION IF EXISTS audit_events_by_resource;
