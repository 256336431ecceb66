-- class: functions

-- file
CREATE FUNCTION {db}_f AS (x) -> x + 1;
CREATE OR REPLACE FUNCTION {db}_f AS (x) -> x + 100;

-- file
CREATE TABLE fu (id UInt64, y UInt64 DEFAULT {db}_f(id)) ENGINE = MergeTree ORDER BY id;
INSERT INTO fu (id) VALUES (1);

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
