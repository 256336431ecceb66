-- class: NO TRANSACTION, ordinary statements

-- file
CREATE TABLE t (id int PRIMARY KEY, x int, y text);
INSERT INTO t SELECT n, n % 10, 'row ' || n FROM generate_series(1, 20000) AS n;

-- file: no transaction
ALTER TABLE t ADD COLUMN w int DEFAULT 1;
UPDATE t SET w = w + 1;
INSERT INTO t VALUES (700001, 1, 'n', 4);
DROP TABLE IF EXISTS nothing;

-- file
CREATE TABLE after (id int PRIMARY KEY);
INSERT INTO after VALUES (1), (2);
