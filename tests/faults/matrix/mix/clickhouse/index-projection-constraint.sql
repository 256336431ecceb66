-- class: index, projection, constraint

-- file
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);

-- file
ALTER TABLE c ADD INDEX i n TYPE minmax GRANULARITY 1;
ALTER TABLE c MATERIALIZE INDEX i;
ALTER TABLE c ADD PROJECTION p (SELECT n, count() GROUP BY n);
ALTER TABLE c ADD CONSTRAINT positive CHECK n >= 0;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
