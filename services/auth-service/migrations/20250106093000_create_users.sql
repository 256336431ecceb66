-- +goose Up
CREATE TYPE user_status AS ENUM ('pending', 'active', 'locked', 'deleted');

CREATE TABLE users (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    email TEXT NOT NULL,
    email_verified_at TIMESTAMPTZ(6),
    -- NULL for a user who only ever signs in through an OAuth provider.
    password_hash TEXT,
    status user_status NOT NULL DEFAULT 'pending',
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT users_email_has_at CHECK (position('@' IN email) > 1)
);

-- Addresses differ only in case for people, never for us: one account per address.
CREATE UNIQUE INDEX users_email_lower_key ON users (lower(email));

CREATE TRIGGER users_set_updated_at
    BEFORE UPDATE ON users
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

COMMENT ON COLUMN users.password_hash IS 'argon2id in PHC string format; never a plain password';

-- +goose Down
DROP TABLE IF EXISTS users;
DROP TYPE IF EXISTS user_status;
