-- +goose NO TRANSACTION
-- +goose Up

-- The sweeper looks only at bindings that expire at all, which are few: a partial index stays tiny.
CREATE INDEX CONCURRENTLY IF NOT EXISTS role_bindings_expires_at_idx ON role_bindings (expires_at) WHERE expires_at IS NOT NULL;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS role_bindings_expires_at_idx;
