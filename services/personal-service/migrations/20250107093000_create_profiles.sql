-- +goose Up
CREATE TABLE profiles (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    -- The account lives in another service's database, so there is nothing here to reference.
    account_id TEXT NOT NULL,
    given_name TEXT NOT NULL DEFAULT '',
    family_name TEXT NOT NULL DEFAULT '',
    -- Generated when the table is new: adding a stored generated column later rewrites the table.
    full_name TEXT GENERATED ALWAYS AS (btrim(given_name || ' ' || family_name)) STORED,
    birth_date DATE,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT profiles_account_id_key UNIQUE (account_id),
    CONSTRAINT profiles_birth_date_is_plausible CHECK (birth_date > DATE '1900-01-01')
);

CREATE TRIGGER profiles_set_updated_at
    BEFORE UPDATE ON profiles
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- +goose Down
DROP TABLE IF EXISTS profiles;
