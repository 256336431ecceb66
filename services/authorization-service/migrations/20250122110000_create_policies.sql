-- +goose Up
CREATE TYPE policy_effect AS ENUM ('allow', 'deny');

CREATE TABLE policies (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    name TEXT NOT NULL,
    effect policy_effect NOT NULL,
    actions TEXT[] NOT NULL,
    resources TEXT[] NOT NULL,
    conditions JSONB NOT NULL DEFAULT '{}'::jsonb,
    -- The lower number is asked first; at equal priority a denial wins.
    priority BIGINT NOT NULL DEFAULT 1000,
    enabled BOOLEAN NOT NULL DEFAULT TRUE,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT policies_name_key UNIQUE (name),
    CONSTRAINT policies_name_something CHECK (cardinality(actions) > 0 AND cardinality(resources) > 0),
    CONSTRAINT policies_conditions_are_an_object CHECK (jsonb_typeof(conditions) = 'object')
);

CREATE INDEX policies_resources_idx ON policies USING gin (resources) WHERE enabled;

CREATE TRIGGER policies_set_updated_at
    BEFORE UPDATE ON policies
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- +goose Down
DROP TABLE IF EXISTS policies;
DROP TYPE IF EXISTS policy_effect;
