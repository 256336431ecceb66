-- +goose Up
CREATE TABLE oauth_providers (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    name TEXT NOT NULL,
    issuer_url TEXT NOT NULL,
    scopes TEXT[] NOT NULL DEFAULT ARRAY['openid', 'email'],
    enabled BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT oauth_providers_name_key UNIQUE (name),
    CONSTRAINT oauth_providers_issuer_is_https CHECK (issuer_url LIKE 'https://%')
);

CREATE TRIGGER oauth_providers_set_updated_at
    BEFORE UPDATE ON oauth_providers
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

CREATE TABLE oauth_accounts (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    provider_id TEXT NOT NULL REFERENCES oauth_providers (id) ON DELETE RESTRICT,
    -- The provider's own identifier is stable; an address that the provider reports is not.
    subject TEXT NOT NULL,
    claims JSONB NOT NULL DEFAULT '{}'::jsonb,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT oauth_accounts_provider_subject_key UNIQUE (provider_id, subject)
);

CREATE INDEX oauth_accounts_user_id_idx ON oauth_accounts (user_id);

CREATE TRIGGER oauth_accounts_set_updated_at
    BEFORE UPDATE ON oauth_accounts
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- All start disabled: an operator switches a provider on where its client credentials exist.
INSERT INTO oauth_providers (name, issuer_url, scopes) VALUES
    ('google', 'https://accounts.google.com', ARRAY['openid', 'email', 'profile']),
    ('apple', 'https://appleid.apple.com', ARRAY['openid', 'email', 'name']),
    ('kakao', 'https://kauth.kakao.com', ARRAY['openid', 'account_email']);

-- +goose Down
DROP TABLE IF EXISTS oauth_accounts;
DROP TABLE IF EXISTS oauth_providers;
