-- +goose Up
CREATE TABLE verification_challenges (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    identity_id TEXT NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
    -- Only a hash: whoever reads the table must not be able to verify an address.
    code_hash BYTEA NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL DEFAULT 5,
    expires_at TIMESTAMPTZ(6) NOT NULL DEFAULT now() + INTERVAL '10 minutes',
    consumed_at TIMESTAMPTZ(6),
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT verification_challenges_attempts_are_bounded CHECK (attempts BETWEEN 0 AND max_attempts)
);

-- One open challenge at a time: a new code replaces the old one instead of widening the odds of a guess.
CREATE UNIQUE INDEX verification_challenges_open_key ON verification_challenges (identity_id) WHERE consumed_at IS NULL;

-- +goose StatementBegin
CREATE FUNCTION mark_identity_verified()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  UPDATE identities SET verified_at = NEW.consumed_at WHERE id = NEW.identity_id AND verified_at IS NULL;
  RETURN NULL;
END;
$$;
-- +goose StatementEnd

CREATE TRIGGER verification_challenges_verify_identity
    AFTER UPDATE OF consumed_at ON verification_challenges
    FOR EACH ROW
    WHEN (OLD.consumed_at IS NULL AND NEW.consumed_at IS NOT NULL)
    EXECUTE FUNCTION mark_identity_verified();

-- +goose Down
DROP TABLE IF EXISTS verification_challenges;
DROP FUNCTION IF EXISTS mark_identity_verified();
