-- class: ALTER of each kind

-- file
CREATE TABLE t (id int PRIMARY KEY, x int, y text);
INSERT INTO t SELECT n, n % 10, 'row ' || n FROM generate_series(1, 20000) AS n;

-- file
ALTER TABLE t ADD COLUMN z int DEFAULT 5;
ALTER TABLE t ALTER COLUMN x TYPE bigint;

-- file
ALTER TABLE t RENAME COLUMN y TO name;
ALTER TABLE t ADD CONSTRAINT t_x CHECK (x >= 0) NOT VALID;
ALTER TABLE t VALIDATE CONSTRAINT t_x;
