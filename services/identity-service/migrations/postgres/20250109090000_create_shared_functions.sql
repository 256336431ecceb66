-- +goose Up

-- Version 7 UUIDs sort by creation time, so a primary key index grows at its right edge instead of
-- everywhere. The random bits come from gen_random_uuid(), which is part of the core since PostgreSQL 13:
-- gen_random_bytes() would need the pgcrypto extension, which a migration role may not be allowed to install.
-- +goose StatementBegin
CREATE FUNCTION uuid_generate_v7()
RETURNS uuid
LANGUAGE plpgsql
VOLATILE
PARALLEL SAFE
AS $$
DECLARE
  unix_ts_ms bytea;
  uuid_bytes bytea;
BEGIN
  unix_ts_ms = substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3);
  -- A version 4 UUID has 122 random bits and already carries the variant that version 7 needs in byte 8.
  uuid_bytes = overlay(uuid_send(gen_random_uuid()) PLACING unix_ts_ms FROM 1 FOR 6);
  -- The upper half of byte 6 is the version: 4 becomes 7.
  uuid_bytes = set_byte(uuid_bytes, 6, (get_byte(uuid_bytes, 6) & 15) | 112);
  RETURN encode(uuid_bytes, 'hex')::uuid;
END;
$$;
-- +goose StatementEnd

-- Every table with an updated_at column shares this trigger function: the column is right even for rows
-- that somebody repairs by hand.
-- +goose StatementBegin
CREATE FUNCTION set_updated_at()
RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  NEW.updated_at = now();
  RETURN NEW;
END;
$$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION IF EXISTS set_updated_at();
DROP FUNCTION IF EXISTS uuid_generate_v7();
