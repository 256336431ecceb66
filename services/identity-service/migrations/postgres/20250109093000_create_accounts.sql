-- +goose Up
CREATE TYPE account_status AS ENUM ('registered', 'verified', 'suspended', 'closed');

CREATE TABLE accounts (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    handle TEXT NOT NULL,
    status account_status NOT NULL DEFAULT 'registered',
    closed_at TIMESTAMPTZ(6),
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT accounts_handle_is_well_formed CHECK (handle ~ '^[a-z][a-z0-9_.-]{2,29}$'),
    CONSTRAINT accounts_closed_has_time CHECK ((status = 'closed') = (closed_at IS NOT NULL))
);

-- A closed account gives its handle back.
CREATE UNIQUE INDEX accounts_open_handle_key ON accounts (handle) WHERE status <> 'closed';

CREATE TRIGGER accounts_set_updated_at
    BEFORE UPDATE ON accounts
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- +goose Down
DROP TABLE IF EXISTS accounts;
DROP TYPE IF EXISTS account_status;
