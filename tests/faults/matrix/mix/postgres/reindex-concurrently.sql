-- class: REINDEX CONCURRENTLY

-- file
CREATE TABLE t (id int PRIMARY KEY, x int, y text);
INSERT INTO t SELECT n, n % 10, 'row ' || n FROM generate_series(1, 20000) AS n;
CREATE INDEX t_y ON t (y);

-- file: no transaction
REINDEX TABLE CONCURRENTLY t;
REINDEX INDEX CONCURRENTLY t_y;

-- file
CREATE TABLE after (id int PRIMARY KEY);
INSERT INTO after VALUES (1), (2);
