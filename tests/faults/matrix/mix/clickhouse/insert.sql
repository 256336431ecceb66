-- class: INSERT

-- file
CREATE TABLE c (id UInt64, n Int64) ENGINE = MergeTree ORDER BY id;
INSERT INTO c VALUES (1, 1), (2, 2);

-- file
INSERT INTO c SELECT number + 10, number FROM numbers(2000);
INSERT INTO c SELECT id + 10000, n FROM c WHERE id < 100;

-- file
CREATE TABLE after (id UInt64) ENGINE = MergeTree ORDER BY id;
INSERT INTO after VALUES (1), (2);
