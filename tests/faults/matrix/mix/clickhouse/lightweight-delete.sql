-- class: lightweight DELETE

-- file
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);

-- file
DELETE FROM c WHERE id % 3 = 0;
ALTER TABLE c ADD COLUMN later UInt8;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
