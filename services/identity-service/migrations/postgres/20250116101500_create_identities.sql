-- +goose Up
CREATE TYPE identity_kind AS ENUM ('email', 'phone');

CREATE TABLE identities (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    kind identity_kind NOT NULL,
    value TEXT NOT NULL,
    is_primary BOOLEAN NOT NULL DEFAULT FALSE,
    verified_at TIMESTAMPTZ(6),
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now()
);

CREATE INDEX identities_account_id_idx ON identities (account_id);

-- Unique among verified values only: else anybody could block an address by claiming it first.
CREATE UNIQUE INDEX identities_verified_value_key ON identities (kind, lower(value)) WHERE verified_at IS NOT NULL;
CREATE UNIQUE INDEX identities_one_primary_key ON identities (account_id, kind) WHERE is_primary;

CREATE TRIGGER identities_set_updated_at
    BEFORE UPDATE ON identities
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- +goose Down
DROP TABLE IF EXISTS identities;
DROP TYPE IF EXISTS identity_kind;
