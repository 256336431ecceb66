-- +goose Up
ALTER TABLE role_bindings
    ADD CONSTRAINT role_bindings_expire_after_creation
    CHECK (expires_at > created_at) NOT VALID;

-- +goose Down
ALTER TABLE role_bindings DROP CONSTRAINT IF EXISTS role_bindings_expire_after_creation;
