-- +goose Up
ALTER TABLE role_bindings VALIDATE CONSTRAINT role_bindings_expire_after_creation;

-- +goose Down

-- A constraint cannot be made unvalidated: it is replaced by one that has not been validated.
ALTER TABLE role_bindings DROP CONSTRAINT IF EXISTS role_bindings_expire_after_creation;
ALTER TABLE role_bindings
    ADD CONSTRAINT role_bindings_expire_after_creation
    CHECK (expires_at > created_at) NOT VALID;
