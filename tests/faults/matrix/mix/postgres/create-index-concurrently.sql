-- class: CREATE INDEX CONCURRENTLY

-- file
CREATE TABLE t (id int PRIMARY KEY, x int, y text);
INSERT INTO t SELECT n, n % 10, 'row ' || n FROM generate_series(1, 20000) AS n;

-- file: no transaction
CREATE INDEX CONCURRENTLY t_x ON t (x);
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS t_id ON t (id, y);

-- file
CREATE TABLE after (id int PRIMARY KEY);
INSERT INTO after VALUES (1), (2);
