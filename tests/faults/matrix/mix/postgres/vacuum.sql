-- class: VACUUM

-- file
CREATE TABLE t (id int PRIMARY KEY, x int, y text);
INSERT INTO t SELECT n, n % 10, 'row ' || n FROM generate_series(1, 20000) AS n;

-- file: no transaction
VACUUM ANALYZE t;
VACUUM FULL t;

-- file
CREATE TABLE after (id int PRIMARY KEY);
INSERT INTO after VALUES (1), (2);
