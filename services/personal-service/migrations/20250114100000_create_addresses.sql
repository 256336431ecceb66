-- +goose Up
CREATE TYPE address_kind AS ENUM ('home', 'work', 'shipping', 'billing');

CREATE TABLE addresses (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    profile_id TEXT NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    kind address_kind NOT NULL DEFAULT 'home',
    lines TEXT[] NOT NULL,
    city TEXT NOT NULL,
    postal_code TEXT NOT NULL DEFAULT '',
    country_code TEXT NOT NULL,
    is_default BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT addresses_have_lines CHECK (cardinality(lines) BETWEEN 1 AND 4),
    CONSTRAINT addresses_country_code_is_iso CHECK (country_code ~ '^[A-Z]{2}$')
);

CREATE INDEX addresses_profile_id_idx ON addresses (profile_id);

-- At most one default of each kind, by the database and not by the good will of every writer.
CREATE UNIQUE INDEX addresses_one_default_key ON addresses (profile_id, kind) WHERE is_default;

CREATE TRIGGER addresses_set_updated_at
    BEFORE UPDATE ON addresses
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- +goose Down
DROP TABLE IF EXISTS addresses;
DROP TYPE IF EXISTS address_kind;
