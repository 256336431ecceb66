-- +goose ENVSUB ON
-- +goose Up

-- Five years are kept, then whole parts are dropped instead of being rewritten without their expired rows.
-- materialize_ttl_after_modify=0 lets the rule take effect as parts are merged.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local MODIFY SETTING ttl_only_drop_parts = 1;
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local
    MODIFY TTL toDateTime(occurred_at) + INTERVAL 5 YEAR DELETE
    SETTINGS materialize_ttl_after_modify = 0;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local REMOVE TTL;
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local RESET SETTING ttl_only_drop_parts;
