-- +goose ENVSUB ON
-- +goose Up

-- The table is ordered by path; the path of one visitor is asked for by session. The projection keeps a
-- second order of the same rows, chosen by the server on its own.
-- +goose StatementBegin
ALTER TABLE ${CLICKHOUSE_DATABASE}.page_views_local
    ADD PROJECTION IF NOT EXISTS page_views_by_session (SELECT * ORDER BY session_id, timestamp);
-- +goose StatementEnd

-- +goose Down
ALTER TABLE ${CLICKHOUSE_DATABASE}.page_views_local DROP PROJECTION IF EXISTS page_views_by_session;
