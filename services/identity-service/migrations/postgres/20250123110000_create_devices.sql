-- +goose Up
CREATE TYPE device_platform AS ENUM ('ios', 'android', 'web');

CREATE TABLE devices (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    platform device_platform NOT NULL,
    fingerprint TEXT NOT NULL,
    push_token TEXT,
    attributes JSONB NOT NULL DEFAULT '{}'::jsonb,
    last_ip_address INET,
    last_seen_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    trusted_at TIMESTAMPTZ(6),
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT devices_account_fingerprint_key UNIQUE (account_id, fingerprint)
);

CREATE TRIGGER devices_set_updated_at
    BEFORE UPDATE ON devices
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- +goose Down
DROP TABLE IF EXISTS devices;
DROP TYPE IF EXISTS device_platform;
