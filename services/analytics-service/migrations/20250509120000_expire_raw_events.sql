-- +goose ENVSUB ON
-- +goose Up

-- materialize_ttl_after_modify=0: the rule takes effect as parts are merged. The default would rewrite the
-- whole table at once.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local
    MODIFY TTL toDateTime(timestamp) + INTERVAL 13 MONTH DELETE
    SETTINGS materialize_ttl_after_modify = 0;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local REMOVE TTL;
