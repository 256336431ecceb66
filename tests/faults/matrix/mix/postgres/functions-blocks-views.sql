-- class: functions, blocks, views

-- file
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION f(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN a + 1; EXCEPTION WHEN others THEN RETURN 0; END $$;
-- +goose StatementEnd

-- file
-- +goose StatementBegin
DO $$ BEGIN FOR i IN 1..3 LOOP EXECUTE format('CREATE TABLE made_%s (id int)', i); END LOOP; END $$;
-- +goose StatementEnd

-- file
CREATE TABLE v0 (a int);
CREATE VIEW v AS SELECT f(a) AS b FROM v0;
