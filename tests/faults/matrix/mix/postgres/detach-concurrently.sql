-- class: DETACH CONCURRENTLY

-- file
CREATE TABLE parted (id int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
INSERT INTO parted SELECT n FROM generate_series(0, 19) AS n;

-- file: no transaction
ALTER TABLE parted DETACH PARTITION parted_1 CONCURRENTLY;

-- file
CREATE TABLE after (id int PRIMARY KEY);
INSERT INTO after VALUES (1), (2);
