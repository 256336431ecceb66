-- class: ALTER … COLUMN

-- file
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);

-- file
ALTER TABLE c ADD COLUMN a UInt32 DEFAULT 7;
ALTER TABLE c RENAME COLUMN s TO name;
ALTER TABLE c MODIFY COLUMN n Int32;
ALTER TABLE c COMMENT COLUMN n 'a number';

-- file
ALTER TABLE c DROP COLUMN a;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
