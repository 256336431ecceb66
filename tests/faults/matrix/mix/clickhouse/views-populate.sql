-- class: views, POPULATE
-- asks: a view that is there doesn't say whether it was filled

-- file
CREATE TABLE c (id UInt64, n Int64, s String) ENGINE = MergeTree ORDER BY id;
INSERT INTO c SELECT number, 0, toString(number) FROM numbers(3000);

-- file
CREATE MATERIALIZED VIEW m ENGINE = SummingMergeTree ORDER BY n POPULATE AS SELECT n, count() AS rows FROM c GROUP BY n;
CREATE VIEW w AS SELECT n FROM c;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
