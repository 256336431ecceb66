-- +goose ENVSUB ON
-- +goose Up

-- New parts are indexed from now on; MATERIALIZE indexes the old ones, as a mutation.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local
    ADD INDEX IF NOT EXISTS events_user_id_idx user_id TYPE bloom_filter(0.01) GRANULARITY 4;
-- +goose StatementEnd

-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local MATERIALIZE INDEX events_user_id_idx;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local DROP INDEX IF EXISTS events_user_id_idx;
