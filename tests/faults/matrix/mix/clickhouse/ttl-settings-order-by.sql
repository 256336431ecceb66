-- class: TTL, settings, ORDER BY

-- file
CREATE TABLE d (id UInt64, at DateTime, n Int8) ENGINE = MergeTree ORDER BY id;

-- file
ALTER TABLE d MODIFY TTL at + INTERVAL 1 YEAR;
ALTER TABLE d MODIFY SETTING merge_with_ttl_timeout = 7200;
ALTER TABLE d ADD COLUMN k UInt8, MODIFY ORDER BY (id, k);

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
