-- +goose Up
ALTER TABLE verification_challenges VALIDATE CONSTRAINT verification_challenges_device_id_fkey;

-- +goose Down

-- A constraint cannot be made unvalidated: it is replaced by one that has not been validated.
ALTER TABLE verification_challenges DROP CONSTRAINT IF EXISTS verification_challenges_device_id_fkey;
ALTER TABLE verification_challenges
    ADD CONSTRAINT verification_challenges_device_id_fkey
    FOREIGN KEY (device_id) REFERENCES devices (id) ON DELETE SET NULL NOT VALID;
