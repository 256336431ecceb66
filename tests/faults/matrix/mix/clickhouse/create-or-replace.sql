-- class: CREATE OR REPLACE

-- file
CREATE TABLE r (id UInt64) ENGINE = MergeTree ORDER BY id;
CREATE VIEW v AS SELECT id FROM r;

-- file
CREATE OR REPLACE VIEW v AS SELECT id, id + 1 AS next FROM r;
CREATE OR REPLACE TABLE r (id UInt64, more UInt8) ENGINE = MergeTree ORDER BY id;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
