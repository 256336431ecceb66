-- class: data

-- file
CREATE TABLE t (id int PRIMARY KEY, x int, y text);
INSERT INTO t SELECT n, n % 10, 'row ' || n FROM generate_series(1, 20000) AS n;

-- file
UPDATE t SET x = x + 1;

-- file
DELETE FROM t WHERE id % 3 = 0;
INSERT INTO t SELECT 100000 + n, n, 'late' FROM generate_series(1, 500) AS n;
