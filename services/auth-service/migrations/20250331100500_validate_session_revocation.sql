-- +goose Up
ALTER TABLE sessions VALIDATE CONSTRAINT sessions_revocation_has_reason;

-- +goose Down

-- A constraint cannot be made unvalidated: it is replaced by one that has not been validated.
ALTER TABLE sessions DROP CONSTRAINT IF EXISTS sessions_revocation_has_reason;
ALTER TABLE sessions
    ADD CONSTRAINT sessions_revocation_has_reason
    CHECK (revoked_at IS NULL OR revoked_reason IS NOT NULL) NOT VALID;
