-- class: mutations

-- file
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);

-- file
ALTER TABLE c UPDATE n = n + 1 + 0 * sleepEachRow(0.0001) WHERE 1;
ALTER TABLE c UPDATE n = n + 1 WHERE 1;

-- file
ALTER TABLE c DELETE WHERE id % 2 = 0;
ALTER TABLE c UPDATE n = n + 1 WHERE 1;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
