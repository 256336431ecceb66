-- class: ATTACH, DETACH, DROP

-- file
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);

-- file
DETACH TABLE c;
ATTACH TABLE c;
CREATE TABLE gone (id UInt64) ENGINE = MergeTree ORDER BY id;
DROP TABLE gone;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
