-- class: TRUNCATE, DROP PARTITION

-- file
CREATE TABLE pt (id UInt64, m UInt8) ENGINE = MergeTree PARTITION BY m ORDER BY id;
INSERT INTO pt SELECT number, number % 3 FROM numbers(300);

-- file
ALTER TABLE pt DROP PARTITION 1;
ALTER TABLE pt ADD COLUMN z UInt8;

-- file
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);
TRUNCATE TABLE c;
ALTER TABLE c ADD COLUMN z UInt8;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
