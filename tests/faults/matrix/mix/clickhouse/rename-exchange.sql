-- class: RENAME, EXCHANGE

-- file
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);

-- file
RENAME TABLE c TO c1;
CREATE TABLE c2 (id UInt64) ENGINE = MergeTree ORDER BY id;
EXCHANGE TABLES c1 AND c2;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
