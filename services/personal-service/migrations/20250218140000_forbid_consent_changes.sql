-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION refuse_consent_change()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  RAISE EXCEPTION 'consents are append-only; insert a withdrawn decision instead of changing %', OLD.id
    USING ERRCODE = 'restrict_violation';
END;
$$;
-- +goose StatementEnd

-- UPDATE only: deleting a profile, which a person may demand, must still cascade to its consents.
CREATE TRIGGER consents_are_append_only
    BEFORE UPDATE ON consents
    FOR EACH ROW EXECUTE FUNCTION refuse_consent_change();

-- +goose Down
DROP TRIGGER IF EXISTS consents_are_append_only ON consents;
DROP FUNCTION IF EXISTS refuse_consent_change();
