-- +goose Up
CREATE TYPE mfa_method_type AS ENUM ('totp', 'sms');

CREATE TABLE mfa_methods (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    type mfa_method_type NOT NULL,
    label TEXT NOT NULL DEFAULT '',
    -- Encrypted by the application: the database never sees the shared secret.
    encrypted_secret BYTEA NOT NULL,
    confirmed_at TIMESTAMPTZ(6),
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now()
);

CREATE INDEX mfa_methods_user_id_idx ON mfa_methods (user_id);

CREATE TRIGGER mfa_methods_set_updated_at
    BEFORE UPDATE ON mfa_methods
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE mfa_recovery_codes (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    code_hash BYTEA NOT NULL,
    used_at TIMESTAMPTZ(6),
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT mfa_recovery_codes_user_code_key UNIQUE (user_id, code_hash)
);

-- +goose Down
DROP TABLE IF EXISTS mfa_recovery_codes;
DROP TABLE IF EXISTS mfa_methods;
DROP TYPE IF EXISTS mfa_method_type;
