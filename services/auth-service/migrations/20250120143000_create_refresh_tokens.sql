-- +goose Up

-- Tokens rotate: each use issues a child of the same family. When a token is presented a second time,
-- somebody has copied it, and the whole family is revoked.
CREATE TABLE refresh_tokens (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    family_id TEXT NOT NULL,
    parent_id TEXT REFERENCES refresh_tokens (id) ON DELETE SET NULL,
    token_hash BYTEA NOT NULL,
    used_at TIMESTAMPTZ(6),
    revoked_at TIMESTAMPTZ(6),
    expires_at TIMESTAMPTZ(6) NOT NULL,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT refresh_tokens_token_hash_key UNIQUE (token_hash),
    CONSTRAINT refresh_tokens_hash_is_sha256 CHECK (octet_length(token_hash) = 32)
);

CREATE INDEX refresh_tokens_session_id_idx ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_family_id_idx ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_parent_id_idx ON refresh_tokens (parent_id);

-- +goose StatementBegin
CREATE FUNCTION revoke_token_family(family TEXT)
RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
  revoked bigint;
BEGIN
  UPDATE refresh_tokens SET revoked_at = now() WHERE family_id = family AND revoked_at IS NULL;
  GET DIAGNOSTICS revoked = ROW_COUNT;
  RETURN revoked;
END;
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION IF EXISTS revoke_token_family(TEXT);
DROP TABLE IF EXISTS refresh_tokens;
