-- +goose Up
CREATE TABLE preference_definitions (
    key TEXT PRIMARY KEY,
    description TEXT NOT NULL,
    default_value JSONB NOT NULL,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now()
);

CREATE TABLE preferences (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    profile_id TEXT NOT NULL REFERENCES profiles (id) ON DELETE CASCADE,
    key TEXT NOT NULL REFERENCES preference_definitions (key) ON DELETE RESTRICT,
    value JSONB NOT NULL,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT preferences_profile_key_key UNIQUE (profile_id, key)
);

CREATE INDEX preferences_key_idx ON preferences (key);

CREATE TRIGGER preferences_set_updated_at
    BEFORE UPDATE ON preferences
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

INSERT INTO preference_definitions (key, description, default_value) VALUES
    ('language', 'Language of the user interface; a BCP 47 tag', '"ko-KR"'),
    ('timezone', 'Time zone in which dates are shown; an IANA name', '"Asia/Seoul"'),
    ('marketing_email', 'Whether newsletters may be sent', 'false');

-- +goose Down
DROP TABLE IF EXISTS preferences;
DROP TABLE IF EXISTS preference_definitions;
