-- +goose Up
ALTER TABLE profiles VALIDATE CONSTRAINT profiles_phone_number_is_e164;

-- +goose Down

-- A constraint cannot be made unvalidated: it is replaced by one that has not been validated.
ALTER TABLE profiles DROP CONSTRAINT IF EXISTS profiles_phone_number_is_e164;
ALTER TABLE profiles
    ADD CONSTRAINT profiles_phone_number_is_e164
    CHECK (phone_number ~ '^\+[1-9][0-9]{6,14}$') NOT VALID;
