-- class: refreshable views

-- file
CREATE TABLE target (n Int64) ENGINE = MergeTree ORDER BY n;
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);

-- file
CREATE MATERIALIZED VIEW rv REFRESH EVERY 100 YEAR TO target EMPTY AS SELECT n FROM c;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
