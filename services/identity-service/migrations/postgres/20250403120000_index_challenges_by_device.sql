-- +goose NO TRANSACTION
-- +goose Up

-- Without it, deleting a device would scan all challenges for rows to set to NULL.
CREATE INDEX CONCURRENTLY IF NOT EXISTS verification_challenges_device_id_idx ON verification_challenges (device_id);

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS verification_challenges_device_id_idx;
