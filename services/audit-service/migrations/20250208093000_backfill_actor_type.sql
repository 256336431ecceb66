-- +goose ENVSUB ON
-- +goose Up

-- Before this release services signed their own events with a 'service:' prefix. Only rows without a type
-- are touched, so running it twice does no harm.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local
    UPDATE actor_type = if(startsWith(actor_id, 'service:'), 'service', 'account')
    WHERE actor_type = '';
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.audit_events_local UPDATE actor_type = '' WHERE actor_type != '';
-- +goose StatementEnd
