-- +goose Up
ALTER TABLE verification_challenges ADD COLUMN device_id TEXT;

-- NOT VALID: no scan while both tables are locked. The next migration validates.
ALTER TABLE verification_challenges
    ADD CONSTRAINT verification_challenges_device_id_fkey
    FOREIGN KEY (device_id) REFERENCES devices (id) ON DELETE SET NULL NOT VALID;

-- +goose Down
ALTER TABLE verification_challenges DROP CONSTRAINT IF EXISTS verification_challenges_device_id_fkey;
ALTER TABLE verification_challenges DROP COLUMN IF EXISTS device_id;
