-- +goose Up

-- A constant default is stored in the catalogue: no row is rewritten, however large the table.
ALTER TABLE profiles
    ADD COLUMN locale TEXT NOT NULL DEFAULT 'ko-KR',
    ADD COLUMN phone_number TEXT;

ALTER TABLE profiles
    ADD CONSTRAINT profiles_phone_number_is_e164
    CHECK (phone_number ~ '^\+[1-9][0-9]{6,14}$') NOT VALID;

-- +goose Down
ALTER TABLE profiles DROP CONSTRAINT IF EXISTS profiles_phone_number_is_e164;
ALTER TABLE profiles
    DROP COLUMN IF EXISTS phone_number,
    DROP COLUMN IF EXISTS locale;
