-- +goose NO TRANSACTION
-- +goose Up

-- CONCURRENTLY lets logins go on while the index is built; the server refuses it inside a transaction.
-- It stands alone in its file: a failure half-way leaves nothing else to clean up.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_live_idx ON sessions (user_id, expires_at) WHERE revoked_at IS NULL;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS sessions_live_idx;
