-- +goose ENVSUB ON
-- +goose Up

-- A mutation rewrites the parts that it touches. It names only rows that still lack a platform, so running
-- it twice does no harm.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local
    UPDATE platform = JSONExtractString(properties, 'platform')
    WHERE platform = '' AND JSONHas(properties, 'platform');
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.events_local
    UPDATE platform = ''
    WHERE platform = JSONExtractString(properties, 'platform') AND JSONHas(properties, 'platform');
-- +goose StatementEnd
