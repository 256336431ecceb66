-- class: dictionaries

-- file
CREATE TABLE source (id UInt64, name String) ENGINE = MergeTree ORDER BY id;

-- file
CREATE DICTIONARY names (id UInt64, name String) PRIMARY KEY id SOURCE(CLICKHOUSE(TABLE 'source')) LAYOUT(FLAT()) LIFETIME(0);
ALTER TABLE source ADD COLUMN more UInt8;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
