-- +goose Up
CREATE TYPE subject_type AS ENUM ('account', 'group', 'service');

CREATE TABLE role_bindings (
    id TEXT PRIMARY KEY DEFAULT uuid_generate_v7()::text,
    subject_type subject_type NOT NULL,
    subject_id TEXT NOT NULL,
    role_id TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    -- The empty scope is the whole platform; else a path such as 'organization/42/project/7'.
    scope TEXT NOT NULL DEFAULT '',
    granted_by TEXT NOT NULL,
    expires_at TIMESTAMPTZ(6),
    created_at TIMESTAMPTZ(6) NOT NULL DEFAULT now(),
    CONSTRAINT role_bindings_subject_role_scope_key UNIQUE (subject_type, subject_id, role_id, scope)
);

CREATE INDEX role_bindings_role_id_idx ON role_bindings (role_id);

-- +goose Down
DROP TABLE IF EXISTS role_bindings;
DROP TYPE IF EXISTS subject_type;
