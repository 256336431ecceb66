-- +goose Up
CREATE TABLE roles (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    name TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    -- System roles are seeded by migrations and may not be edited by tenants.
    is_system BOOLEAN NOT NULL DEFAULT FALSE,
    parent_id TEXT REFERENCES roles (id) ON DELETE RESTRICT,
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    updated_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT roles_name_key UNIQUE (name),
    CONSTRAINT roles_are_not_their_own_parent CHECK (parent_id <> id)
);

CREATE INDEX roles_parent_id_idx ON roles (parent_id);

CREATE TRIGGER roles_set_updated_at
    BEFORE UPDATE ON roles
    FOR EACH ROW EXECUTE FUNCTION set_updated_at();

-- +goose Down
DROP TABLE IF EXISTS roles;
