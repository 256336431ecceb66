-- class: CALL that commits
-- asks: what it has committed shows nowhere

-- file
CREATE TABLE t (id int PRIMARY KEY, x int, y text);
INSERT INTO t SELECT n, n % 10, 'row ' || n FROM generate_series(1, 20000) AS n;
-- +goose StatementBegin
CREATE PROCEDURE p() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO t VALUES (900001, 1, 'p'); COMMIT; INSERT INTO t VALUES (900002, 2, 'p'); END $$;
-- +goose StatementEnd

-- file: no transaction
CALL p();

-- file
CREATE TABLE after (id int PRIMARY KEY);
INSERT INTO after VALUES (1), (2);
