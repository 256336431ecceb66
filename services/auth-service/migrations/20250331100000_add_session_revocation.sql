-- +goose Up
ALTER TABLE sessions
    ADD COLUMN revoked_at TIMESTAMPTZ(6),
    ADD COLUMN revoked_reason TEXT;

-- NOT VALID: new rows are checked from now on, but the existing ones are not read while the table is
-- locked. The next migration validates them under a lock that lets reads and writes through.
ALTER TABLE sessions
    ADD CONSTRAINT sessions_revocation_has_reason
    CHECK (revoked_at IS NULL OR revoked_reason IS NOT NULL) NOT VALID;

-- +goose Down
ALTER TABLE sessions DROP CONSTRAINT IF EXISTS sessions_revocation_has_reason;
ALTER TABLE sessions
    DROP COLUMN IF EXISTS revoked_reason,
    DROP COLUMN IF EXISTS revoked_at;
