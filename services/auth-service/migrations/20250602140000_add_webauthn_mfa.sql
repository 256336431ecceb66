-- +goose Up
ALTER TYPE mfa_method_type ADD VALUE IF NOT EXISTS 'webauthn' BEFORE 'totp';

ALTER TABLE mfa_methods ADD COLUMN credential_id BYTEA;

-- +goose Down
ALTER TABLE mfa_methods DROP COLUMN IF EXISTS credential_id;

-- An enum value cannot be dropped, so the type is made anew without it. Security keys cannot be expressed
-- in the older type and are removed: their owners enrol again.
DELETE FROM mfa_methods WHERE type::text = 'webauthn';
ALTER TYPE mfa_method_type RENAME TO mfa_method_type_with_webauthn;
CREATE TYPE mfa_method_type AS ENUM ('totp', 'sms');
ALTER TABLE mfa_methods ALTER COLUMN type TYPE mfa_method_type USING type::text::mfa_method_type;
DROP TYPE mfa_method_type_with_webauthn;
