-- +goose ENVSUB ON
-- +goose Up
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local
    ADD INDEX IF NOT EXISTS audit_events_actor_id_idx actor_id TYPE bloom_filter(0.01) GRANULARITY 4,
    ADD INDEX IF NOT EXISTS audit_events_trace_id_idx trace_id TYPE bloom_filter(0.001) GRANULARITY 4;
-- +goose StatementEnd

-- The index above covers new parts only.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local MATERIALIZE INDEX audit_events_actor_id_idx;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local
    DROP INDEX IF EXISTS audit_events_trace_id_idx,
    DROP INDEX IF EXISTS audit_events_actor_id_idx;
-- +goose StatementEnd
